//! Requests of clients with and without identity, under policies of the admin port.

use axum::{Extension, body::Body};
use proxy_model::{
    NetworkMatch,
    inbound::catch_all,
    route::{Filter, HttpMatch, PathMatch, Rule},
};
use proxy_process::admin::{Admin, Readiness};
use tower::ServiceExt as _;

use super::*;
use crate::admin::{guarded, router, tests::state};

const STRANGER: &str = "10.0.0.9:4242";
const PROMETHEUS: &str = "prometheus.monitoring.serviceaccount.identity.linkerd.cluster.local";

fn authorization(meta: Meta, authentication: Authentication) -> Authorization {
    Authorization {
        networks: vec![NetworkMatch::whole("0.0.0.0/0".parse().expect("a network"))],
        authentication,
        labels: Default::default(),
        meta: Some(meta),
    }
}

fn named(identity: &str) -> Authorization {
    let meta = Meta::Resource {
        group: "policy.linkerd.io".into(),
        kind: "authorizationpolicy".into(),
        name: "scrapes".into(),
        namespace: "emojivoto".into(),
        section: "".into(),
        port: None,
    };
    let identities = vec![identity.parse().expect("an id")];
    let suffixes = Vec::new();
    authorization(meta, Authentication::TlsAuthenticated { identities, suffixes })
}

fn policy(authorizations: Vec<Authorization>) -> ServerPolicy {
    ServerPolicy {
        protocol: ServerProtocol::Http1 {
            routes: vec![catch_all()],
            rate_limit: None,
        },
        authorizations,
        labels: Default::default(),
        server_ips: Vec::new(),
    }
}

fn by_default(authentication: Authentication) -> ServerPolicy {
    policy(vec![authorization(Meta::default_named("all"), authentication)])
}

fn mesh(identity: &str) -> ClientTls {
    ClientTls::Mesh {
        client_id: Some(identity.parse().expect("an id")),
    }
}

/// Statuses of `/metrics`, `/env.json` and `/live`, and the number of counted denials.
async fn answers(policy: impl Into<Option<ServerPolicy>>, client: &str, tls: ClientTls) -> ([u16; 3], usize) {
    let policy = policy.into();
    let (_updates, policy) = tokio::sync::watch::channel(policy.map(std::sync::Arc::new));
    let mut state = state();
    state.gate.policy = policy;
    let (gate, metrics) = (state.gate.clone(), state.gate.metrics.metrics().clone());
    let admin = Admin::new(Readiness::default(), String::new).with(router(state));
    let client = ClientAddr(client.parse().expect("an address"));
    let service = guarded(&admin, gate)
        .service
        .layer(Extension(client))
        .layer(Extension(tls));
    let mut statuses = [0; 3];
    for (status, path) in statuses.iter_mut().zip(["/metrics", "/env.json", "/live"]) {
        let request = Request::get(path).header("host", "10.9.0.2:4191");
        let request = request.body(Body::empty()).expect("a request");
        let answer = service.clone().oneshot(request).await.expect("infallible");
        *status = answer.status().as_u16();
    }
    let text = metrics.render();
    let denied = text
        .lines()
        .filter(|line| line.starts_with("inbound_http_authz_deny_total{"));
    (statuses, denied.count())
}

#[tokio::test]
async fn an_open_port_shows_its_metrics_and_no_more() {
    let open = || by_default(Authentication::Unauthenticated);
    assert_eq!(answers(open(), STRANGER, ClientTls::None).await.0, [200, 403, 200]);
    assert_eq!(answers(open(), STRANGER, mesh(PROMETHEUS)).await.0, [200, 403, 200]);
    assert_eq!(answers(open(), "127.0.0.1:1", ClientTls::None).await.0, [200, 200, 200]);
}

#[tokio::test]
async fn a_closed_port_answers_probes_and_this_host() {
    let closed = || policy(Vec::new());
    assert_eq!(
        answers(closed(), STRANGER, mesh(PROMETHEUS)).await,
        ([403, 403, 200], 1)
    );
    assert_eq!(
        answers(closed(), "127.0.0.1:1", ClientTls::None).await,
        ([200, 200, 200], 0)
    );
    assert_eq!(
        answers(closed(), "[::ffff:127.0.0.1]:1", ClientTls::None).await.0,
        [200, 200, 200]
    );
    let opaque = ServerPolicy {
        protocol: ServerProtocol::Opaque,
        ..closed()
    };
    assert_eq!(answers(opaque, STRANGER, ClientTls::None).await.0, [403, 403, 200]);
}

#[tokio::test]
async fn an_identity_reads_what_an_authorization_names_it_for() {
    let named = || policy(vec![named(PROMETHEUS)]);
    assert_eq!(answers(named(), STRANGER, mesh(PROMETHEUS)).await.0, [200, 200, 200]);
    assert_eq!(
        answers(named(), STRANGER, mesh("web.ns.local")).await.0,
        [403, 403, 200]
    );
    assert_eq!(answers(named(), STRANGER, ClientTls::None).await.0, [403, 403, 200]);
    let any = by_default(Authentication::any_identity());
    assert_eq!(
        answers(any, STRANGER, mesh(PROMETHEUS)).await.0,
        [200, 403, 200],
        "a default names none"
    );
}

#[tokio::test]
async fn routes_of_the_port_apply() {
    let mut scrapes = catch_all::<HttpMatch>();
    scrapes.rules = vec![Rule {
        matches: vec![HttpMatch {
            path: Some(PathMatch::Exact("/metrics".into())),
            ..HttpMatch::default()
        }],
        ..scrapes.rules.remove(0)
    }];
    scrapes.authorizations = vec![named(PROMETHEUS)];
    let with = |route: Route<HttpMatch, Action>| ServerPolicy {
        protocol: ServerProtocol::Http1 {
            routes: vec![route],
            rate_limit: None,
        },
        ..policy(Vec::new())
    };
    let answered = answers(with(scrapes.clone()), STRANGER, mesh(PROMETHEUS)).await;
    assert_eq!(answered.0, [200, 404, 200], "no route for the environment");
    scrapes.rules[0].filters = vec![Filter::Forbidden];
    let answered = answers(with(scrapes), STRANGER, mesh(PROMETHEUS)).await;
    assert_eq!(answered.0, [403, 404, 200], "filters are not applied");
}

#[tokio::test]
async fn without_a_policy_only_probes_and_this_host_are_answered() {
    assert_eq!(answers(None, STRANGER, mesh(PROMETHEUS)).await, ([403, 403, 200], 1));
    let (statuses, _) = answers(None, "127.0.0.1:4242", ClientTls::None).await;
    assert_eq!((statuses[0], statuses[2]), (200, 200));
}
