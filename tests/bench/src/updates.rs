//! Answers of the control planes of both ends: initial ones, and updates of everything.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proxy_model::{
    Authentication, ClientPolicy, ClientProtocol, Endpoint, EndpointSet, Meta, OutboundTarget, Profile, ServerPolicy,
    ServerProtocol,
    inbound::RateLimit,
    outbound::{Distribution, Opaque, TcpRoute},
    profile::ProfileRoute,
    route::{Rule, Timeouts},
};
use tests_harness::{ControlPlane, certificates::identity, values};

use crate::{
    proxy::{self, Role},
    wire,
};

/// Number of updates after which answers repeat, so that series of metrics do not grow without bound.
const VARIANTS: u64 = 4;

/// Initial answers. The sidecar of either end asks for those it needs.
pub(crate) fn begin(control: &ControlPlane) {
    client(control, 0);
    server(control, 0);
}

/// Updates everything.
pub(crate) fn say(control: &ControlPlane, role: Role, second: u64) {
    match role {
        Role::Client => client(control, second),
        Role::Server => server(control, second),
    }
}

fn client(control: &ControlPlane, second: u64) {
    let variant = second % VARIANTS;
    let endpoint = |port, labels| {
        let endpoint = values::meshed((wire::SERVER, port).into(), &identity("bench", "server"));
        values::endpoints([Endpoint { labels, ..endpoint }])
    };
    let set = |port| EndpointSet {
        labels: labels("dst_service", "server"),
        ..endpoint(port, labels("dst_variant", &(variant / 2).to_string()))
    };
    control.set_endpoints(proxy::SERVICE_PATH, Some(set(proxy::BACKEND_PORT)));
    control.set_endpoints(proxy::TCP_PATH, Some(set(proxy::ECHO_PORT)));
    let http = OutboundTarget::Addr(proxy::service_addr());
    control.set_outbound(&http, Some(service(variant)));
    let tcp = OutboundTarget::Addr(proxy::tcp_addr());
    control.set_outbound(&tcp, Some(bytes(variant)));
    if variant == 3 {
        // The first answer is without one: most services have none.
        let route = ProfileRoute {
            condition: None,
            response_classes: Vec::new(),
            labels: labels("route", "all"),
            is_retryable: second % 8 == 3,
            timeout: None,
            retry_budget: None,
        };
        let profile = Profile {
            fully_qualified_name: "server.bench.svc.cluster.local".to_owned(),
            routes: vec![route],
            ..Profile::default()
        };
        control.set_profile(&proxy::service_addr().to_string(), profile);
    } else if second > 0 {
        control.set_profile(&proxy::service_addr().to_string(), Profile::default());
    }
}

/// Service for HTTP; every second update has a timeout that is never reached, and a split in two.
fn service(variant: u64) -> ClientPolicy {
    let mut policy = values::service("bench", "server", proxy::SERVICE_PORT);
    let ClientProtocol::Detect { http1, http2, .. } = &mut policy.protocol else {
        return policy;
    };
    let actions = [http1, http2]
        .into_iter()
        .flat_map(|http| &mut http.routes)
        .flat_map(|route| &mut route.rules);
    for rule in actions {
        if variant % 2 == 1 {
            rule.action.timeouts = Timeouts {
                request: Some(Duration::from_secs(30)),
                ..Timeouts::default()
            };
        }
        if let (2.., Distribution::FirstAvailable(backends)) = (variant, &rule.action.distribution) {
            let half = backends[0].clone();
            rule.action.distribution = Distribution::RandomAvailable(vec![(half.clone(), 1), (half, variant as u32)]);
        }
    }
    policy
}

/// Service for bytes.
fn bytes(variant: u64) -> ClientPolicy {
    let meta = Meta::resource("core", "Service", "bench", "server").with_port(proxy::TCP_PORT);
    let rule = Rule {
        matches: vec![],
        filters: vec![],
        action: values::balance(meta.clone(), proxy::TCP_PATH),
    };
    let route = TcpRoute {
        meta: Meta::default_named(if variant.is_multiple_of(2) { "opaque" } else { "other" }),
        snis: vec![],
        rules: vec![rule],
    };
    let protocol = ClientProtocol::Opaque(Opaque { routes: vec![route] });
    ClientPolicy {
        meta,
        protocol,
        targets: None,
    }
}

fn server(control: &ControlPlane, second: u64) {
    control.set_inbound(proxy::BACKEND_PORT, policy(second % VARIANTS, false));
    control.set_inbound(proxy::ECHO_PORT, policy(second % VARIANTS, true));
}

/// Authorization of the client's identity by mutual TLS; every second update of any identity. Later ones have a rate
/// limit that is never reached.
fn policy(variant: u64, is_opaque: bool) -> ServerPolicy {
    let mut policy = values::all_unauthenticated();
    let (identities, suffixes) = if variant.is_multiple_of(2) {
        let client = identity("bench", "client").parse().expect("an identity");
        (vec![client], vec![])
    } else {
        (vec![], vec![String::new()])
    };
    for authorization in &mut policy.authorizations {
        authorization.authentication = Authentication::TlsAuthenticated {
            identities: identities.clone(),
            suffixes: suffixes.clone(),
        };
    }
    if is_opaque {
        policy.protocol = ServerProtocol::Opaque;
    } else if let (2.., ServerProtocol::Detect { rate_limit, .. }) = (variant, &mut policy.protocol) {
        *rate_limit = Some(RateLimit {
            meta: None,
            total: Some(1_000_000),
            identity: None,
            overrides: vec![],
        });
    }
    policy
}

fn labels(key: &str, value: &str) -> Arc<BTreeMap<String, String>> {
    Arc::new(BTreeMap::from([(key.to_owned(), value.to_owned())]))
}
