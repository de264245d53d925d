//! Who may. The only place that makes a [`Permit`], without which no connection to the application can be opened.

use proxy_core::{
    authorize::{allows, allows_route},
    select::{self, Head},
};
use proxy_metrics::{ResourceLabels, inbound::AuthzLabels};
use proxy_model::{
    Authorization, Meta, ServerAddr, ServerPolicy, ServerProtocol,
    inbound::{Action, HttpRoute},
    route::{Filter, HttpMatch, PathMatch, Route, Rule},
};
use std::sync::LazyLock;

use crate::{connection::Connection, policy::server_labels};

/// Proof that the policy lets somebody reach this address.
#[derive(Debug)]
pub(crate) struct Permit(ServerAddr);

impl Permit {
    /// The address.
    pub(crate) fn target(&self) -> ServerAddr {
        self.0
    }
}

/// What the policy says about a request.
#[derive(Debug)]
pub(crate) struct Allowed<'p> {
    pub(crate) permit: Permit,
    pub(crate) route: &'p Meta,
    pub(crate) filters: &'p [Filter],
    /// Path prefix that the route matched by.
    pub(crate) prefix: Option<&'p str>,
    pub(crate) authorization: &'p Authorization,
}

/// Why a request may not pass.
#[derive(Debug, PartialEq)]
pub(crate) enum Denied<'p> {
    /// No route takes it.
    NoRoute,
    /// Nothing lets this client use this route.
    Unauthorized(&'p Meta),
}

/// The route where the policy has none, because it does not expect HTTP, but a transport header says it is.
static CATCH_ALL: LazyLock<[HttpRoute; 1]> = LazyLock::new(|| {
    let rule = Rule {
        matches: vec![HttpMatch::default()],
        filters: Vec::new(),
        action: Action,
    };
    let meta = Meta::default_named("default");
    [Route {
        meta,
        hosts: Vec::new(),
        rules: vec![rule],
        authorizations: Vec::new(),
    }]
});

/// Decides about a request: which route, and who may use it.
pub(crate) fn http<'p>(
    connection: &Connection,
    policy: &'p ServerPolicy,
    head: &Head<'_>,
) -> Result<Allowed<'p>, Denied<'p>> {
    let routes = match &policy.protocol {
        ServerProtocol::Detect { routes, .. }
        | ServerProtocol::Http1 { routes, .. }
        | ServerProtocol::Http2 { routes, .. } => routes,
        ServerProtocol::Grpc { routes } => {
            let found = select::grpc(routes, head).ok_or(Denied::NoRoute)?;
            return allow(connection, policy, (found.route, found.rule), None);
        }
        ServerProtocol::Opaque | ServerProtocol::Tls => CATCH_ALL.as_slice(),
    };
    let found = select::http(routes, head).ok_or(Denied::NoRoute)?;
    let prefix = match found.matched.and_then(|matched| matched.path.as_ref()) {
        Some(PathMatch::Prefix(prefix)) => Some(prefix.as_str()),
        _ => None,
    };
    allow(connection, policy, (found.route, found.rule), prefix)
}

fn allow<'p, M>(
    connection: &Connection,
    policy: &'p ServerPolicy,
    (route, rule): (&'p Route<M, Action>, &'p Rule<M, Action>),
    prefix: Option<&'p str>,
) -> Result<Allowed<'p>, Denied<'p>> {
    let client = connection.client.0.ip();
    let found = allows_route(
        &route.authorizations,
        &policy.authorizations,
        client,
        &connection.client_tls,
    );
    let authorization = found.ok_or(Denied::Unauthorized(&route.meta))?;
    let permit = Permit(connection.target);
    Ok(Allowed {
        permit,
        route: &route.meta,
        filters: &rule.filters,
        prefix,
        authorization,
    })
}

/// Decides about an opaque connection, and counts the decision.
pub(crate) fn tcp(connection: &Connection) -> Option<Permit> {
    let policy = connection.policy();
    let labels = tcp_labels(connection, &policy);
    let recorder = &connection.worker.recorder;
    let Some(authorization) = tcp_authorization(connection, &policy) else {
        recorder.tcp_authz_deny(&labels).inc();
        return None;
    };
    recorder
        .tcp_authz_allow(&labels, &authorization_labels(authorization))
        .inc();
    audit(connection, &policy, authorization);
    Some(Permit(connection.target))
}

/// Whether an opaque connection may still be.
pub(crate) fn tcp_again(connection: &Connection, policy: &ServerPolicy) -> bool {
    tcp_authorization(connection, policy).is_some()
}

/// A port that is said to be HTTP authorizes requests, never bytes.
fn tcp_authorization<'p>(connection: &Connection, policy: &'p ServerPolicy) -> Option<&'p Authorization> {
    match policy.protocol {
        ServerProtocol::Detect { .. } | ServerProtocol::Opaque | ServerProtocol::Tls => {
            allows(&policy.authorizations, connection.client.0.ip(), &connection.client_tls)
        }
        ServerProtocol::Http1 { .. } | ServerProtocol::Http2 { .. } | ServerProtocol::Grpc { .. } => None,
    }
}

/// Labels for decisions about opaque connections.
pub(crate) fn tcp_labels<'a>(connection: &'a Connection, policy: &'a ServerPolicy) -> AuthzLabels<'a> {
    let target = connection.target.0;
    AuthzLabels {
        target,
        server: server_labels(policy, target.port()),
        route: None,
        tls: connection.tls.labels(),
    }
}

/// Labels of an authorization; older control planes name it by labels only.
pub(crate) fn authorization_labels(authorization: &Authorization) -> ResourceLabels<'_> {
    if let Some(meta) = &authorization.meta {
        return meta.into();
    }
    let label = |name| authorization.labels.get(name).map_or("", String::as_str);
    ResourceLabels {
        group: label("group"),
        kind: label("kind"),
        name: label("name"),
    }
}

/// The policy word `audit` lets everybody in and wants it told.
pub(crate) fn audit(connection: &Connection, policy: &ServerPolicy, authorization: &Authorization) {
    let Some(Meta::Default(name)) = &authorization.meta else {
        return;
    };
    if &**name != "audit" {
        return;
    }
    let server = server_labels(policy, connection.target.0.port());
    tracing::info!(
        client.addr = %connection.client,
        client.id = connection.client_tls.client_id().map_or("", |id| id.as_str()),
        server.group = server.group,
        server.kind = server.kind,
        server.name = server.name,
        authz.name = "audit",
        "Request allowed"
    );
}
