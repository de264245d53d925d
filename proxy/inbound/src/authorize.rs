//! Authorization. The only place that creates a [`Permit`], without which no connection to the application can be
//! opened.

use proxy_core::{
    authorize::{allows, allows_route, requires_http},
    path,
    select::{self, Head, Selected},
};
use proxy_metrics::{ResourceLabels, inbound::AuthzLabels};
use proxy_model::{
    Authorization, Meta, Reason, ServerAddr, ServerPolicy, ServerProtocol,
    inbound::{ADDITIVE_GROUP, Action, HttpRoute, catch_all},
    limits,
    route::{Filter, HttpMatch, PathMatch},
};
use std::sync::LazyLock;

use crate::{Error, connection::Connection};

/// Proof that the policy allows a client to reach this address.
#[derive(Debug)]
pub(crate) struct Permit(ServerAddr);

impl Permit {
    /// Returns the permitted address.
    pub(crate) fn target(&self) -> ServerAddr {
        self.0
    }
}

/// Route and authorization of a decision, as indices within one policy.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct GrantKey {
    route: usize,
    /// Among the route's and the server's authorizations.
    authorization: usize,
}

/// Positive decision about a request.
#[derive(Debug)]
pub(crate) struct RouteGrant<'p> {
    pub(crate) permit: Permit,
    pub(crate) key: GrantKey,
    pub(crate) route: &'p Meta,
    pub(crate) filters: &'p [Filter],
    /// Path prefix that the route matched.
    pub(crate) prefix: Option<&'p str>,
    pub(crate) authorization: &'p Authorization,
}

/// Negative decision about a request.
#[derive(Debug, PartialEq)]
pub(crate) enum Denial<'p> {
    /// No route matches.
    NoRoute,
    /// No authorization allows this client to use this route.
    Unauthorized(&'p Meta),
}

/// Route of a policy that does not expect HTTP although a transport header announces it.
static CATCH_ALL: LazyLock<[HttpRoute; 1]> = LazyLock::new(|| [catch_all()]);

/// Selects the route of a request, and authorizes the client to use it.
pub(crate) fn http<'p>(
    connection: &Connection,
    policy: &'p ServerPolicy,
    head: &Head<'_>,
) -> Result<RouteGrant<'p>, Denial<'p>> {
    let routes = match &policy.protocol {
        ServerProtocol::Detect { routes, .. }
        | ServerProtocol::Http1 { routes, .. }
        | ServerProtocol::Http2 { routes, .. } => routes,
        ServerProtocol::Grpc { routes } => {
            let found = select::grpc(routes, head).ok_or(Denial::NoRoute)?;
            return allow(connection, policy, &found, None);
        }
        ServerProtocol::Opaque | ServerProtocol::Tls => CATCH_ALL.as_slice(),
    };
    let found = select::http(routes, head).ok_or(Denial::NoRoute)?;
    let denied = match granted(connection, policy, &found) {
        Ok(grant) => return Ok(grant),
        Err(denied) => denied,
    };
    // Other routes that match say nothing, unless they add up.
    let mut adding = select::every_http(routes, head).filter(|found| found.route.meta.group() == ADDITIVE_GROUP);
    adding
        .find_map(|found| granted(connection, policy, &found).ok())
        .ok_or(denied)
}

fn granted<'p>(
    connection: &Connection,
    policy: &'p ServerPolicy,
    found: &Selected<'p, HttpMatch, Action>,
) -> Result<RouteGrant<'p>, Denial<'p>> {
    let prefix = match found.matched.and_then(|matched| matched.path.as_ref()) {
        Some(PathMatch::Prefix(prefix)) => Some(prefix.as_str()),
        _ => None,
    };
    allow(connection, policy, found, prefix)
}

fn allow<'p, M>(
    connection: &Connection,
    policy: &'p ServerPolicy,
    selected: &Selected<'p, M, Action>,
    prefix: Option<&'p str>,
) -> Result<RouteGrant<'p>, Denial<'p>> {
    let client = connection.client.0.ip();
    let route = selected.route;
    let found = allows_route(
        &route.authorizations,
        &policy.authorizations,
        client,
        &connection.client_tls,
    );
    let (index, authorization) = found.ok_or(Denial::Unauthorized(&route.meta))?;
    let permit = Permit(connection.target);
    Ok(RouteGrant {
        permit,
        key: GrantKey {
            route: selected.index,
            authorization: index,
        },
        route: &route.meta,
        filters: &selected.rule.filters,
        prefix,
        authorization,
    })
}

/// Returns true if the policy decides about every reading of the request's path as about the path itself.
pub(crate) fn is_unambiguous(
    connection: &Connection,
    policy: &ServerPolicy,
    head: &Head<'_>,
    filters: &[Filter],
) -> bool {
    if head.path.len() > limits::AMBIGUOUS_PATH_BYTES.value {
        connection.worker.metrics.limit_refused(limits::AMBIGUOUS_PATH_BYTES);
        return false;
    }
    path::all_readings(head.path, |reading, level| {
        let decision = http(connection, policy, &head.reading(reading, level));
        decision.is_ok_and(|grant| grant.filters == filters)
    })
}

/// Authorizes an opaque connection, and counts the decision.
pub(crate) fn tcp(connection: &Connection) -> Result<Permit, Error> {
    let policy = connection.policy();
    let labels = tcp_labels(connection, &policy);
    let metrics = &connection.worker.metrics;
    let denied = |reason, error| {
        metrics.tcp_authz_deny(&labels).inc();
        connection.worker.denials.connection(connection, &policy, reason);
        error
    };
    if requires_http(&policy.protocol) {
        return Err(denied(Reason::HttpRequired, Error::HttpRequired));
    }
    let authorization =
        tcp_authorization(connection, &policy).ok_or_else(|| denied(Reason::Unauthorized, Error::Unauthorized))?;
    metrics
        .tcp_authz_allow(&labels, &authorization_labels(authorization))
        .inc();
    audit(connection, &policy, authorization);
    Ok(Permit(connection.target))
}

/// Returns true if an open opaque connection is still allowed.
pub(crate) fn still_allows_tcp(connection: &Connection, policy: &ServerPolicy) -> bool {
    !requires_http(&policy.protocol) && tcp_authorization(connection, policy).is_some()
}

/// A port declared as HTTP authorizes requests, never opaque bytes.
fn tcp_authorization<'p>(connection: &Connection, policy: &'p ServerPolicy) -> Option<&'p Authorization> {
    match policy.protocol {
        ServerProtocol::Detect { .. } | ServerProtocol::Opaque | ServerProtocol::Tls => {
            allows(&policy.authorizations, connection.client.0.ip(), &connection.client_tls)
        }
        ServerProtocol::Http1 { .. } | ServerProtocol::Http2 { .. } | ServerProtocol::Grpc { .. } => None,
    }
}

/// Labels of decisions about opaque connections.
pub(crate) fn tcp_labels<'a>(connection: &'a Connection, policy: &'a ServerPolicy) -> AuthzLabels<'a> {
    AuthzLabels {
        target: connection.target_labels(policy),
        server: connection.server_labels(policy),
        route: None,
        tls: connection.tls_labels(policy),
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

/// Logs a request allowed by the default policy `audit`.
pub(crate) fn audit(connection: &Connection, policy: &ServerPolicy, authorization: &Authorization) {
    let Some(Meta::Default(name)) = &authorization.meta else {
        return;
    };
    if &**name != "audit" {
        return;
    }
    let server = connection.server_labels(policy);
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
