//! Access to the admin server: the policy of its port, and more where a response tells of the workload.
//!
//! | path | clients |
//! |---|---|
//! | `/live`, `/ready` | everyone |
//! | `/metrics` | this host, and clients that the policy of the port authorizes |
//! | `/env.json`, `/discovery.json` | this host, and identities that an authorization of the policy names |
//! | log filter, `/shutdown` | this host |

use std::net::IpAddr;

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{StatusCode, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use proxy_core::{
    authorize::{ClientTls, allows},
    select::{self, Head},
};
use proxy_discovery::PolicyWatch;
use proxy_metrics::{NoTls, Recorder, ServerLabels, Target, Tls, inbound::AuthzLabels};
use proxy_model::{
    Authentication, Authorization, ClientAddr, Meta, Reason, ServerPolicy, ServerProtocol, inbound::Action,
    route::Route,
};
use proxy_process::local::{self, Refusal};

/// Guard of the admin server. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    /// Policy of the admin port.
    pub(crate) policy: PolicyWatch,
    pub(crate) metrics: Recorder,
    /// Address of the admin server, as labels.
    pub(crate) target: Target,
}

/// Authorization of a request by a policy.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Access {
    /// By any of its authorizations.
    Allowed,
    /// By one that names the identity of the client.
    Named,
}

/// Client of a request.
#[derive(Debug)]
struct Caller {
    ip: IpAddr,
    tls: ClientTls,
}

impl Caller {
    /// None for a request whose client is not known.
    fn new(parts: &Parts) -> Option<Self> {
        let ip = parts.extensions.get::<ClientAddr>()?.0.ip();
        let tls = parts.extensions.get::<ClientTls>().cloned().unwrap_or_default();
        Some(Self { ip, tls })
    }

    fn labels(&self) -> Tls<'_> {
        match &self.tls {
            ClientTls::Mesh { client_id } => Tls::Client(client_id.as_ref()),
            ClientTls::None => Tls::None(NoTls::NoTlsFromRemote),
        }
    }
}

/// Serves a request if the policy of the port allows it. Probes and this host need no authorization.
pub(super) async fn check(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if !matches!(parts.uri.path(), "/live" | "/ready")
        && !local::is_local(&parts)
        && let Err(refusal) = gate.access(&parts)
    {
        return refusal.into_response();
    }
    next.run(Request::from_parts(parts, body)).await
}

/// Proof that a client may read what a response tells of the workload.
pub(super) struct Reader(());

impl<S: AsRef<Gate> + Sync> FromRequestParts<S> for Reader {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        if local::is_local(parts) {
            return local::check_host(parts).map(|()| Self(()));
        }
        match state.as_ref().access(parts)? {
            Access::Named => Ok(Self(())),
            Access::Allowed => Err(local::refusal(
                "Requests are only permitted from localhost and from identities that an authorization names.",
            )),
        }
    }
}

impl Gate {
    /// Access of a client, or the refusal, which is counted.
    fn access(&self, parts: &Parts) -> Result<Access, Refusal> {
        let Some(caller) = Caller::new(parts) else {
            return Err(local::refusal(Reason::Unauthorized.sentence()));
        };
        let policy = self.policy.borrow().clone();
        let access = match &policy {
            Some(policy) => authorize(policy, &caller, parts),
            None => Err(Reason::PolicyUnknown),
        };
        access.map_err(|reason| {
            let labels = policy.as_ref().map(|policy| &policy.labels);
            let label = |name| labels.and_then(|labels| labels.get(name)).map_or("", String::as_str);
            let labels = AuthzLabels {
                target: self.target,
                server: ServerLabels {
                    group: label("group"),
                    kind: label("kind"),
                    name: label("name"),
                    port: self.target.port(),
                },
                route: None,
                tls: caller.labels(),
            };
            tracing::debug!(client = %caller.ip, path = ?parts.uri.path(), reason = reason.code(), "admin request denied");
            if reason == Reason::NoRoute {
                self.metrics.http_route_not_found(&labels).inc();
                let (_, headers, _) = local::refusal("");
                return (StatusCode::NOT_FOUND, headers, reason.sentence());
            }
            self.metrics.http_authz_deny(&labels).inc();
            local::refusal(reason.sentence())
        })
    }
}

fn authorize(policy: &ServerPolicy, caller: &Caller, parts: &Parts) -> Result<Access, Reason> {
    let head = Head::new(&parts.method, &parts.uri, &parts.headers);
    let of_route = match &policy.protocol {
        ServerProtocol::Detect { routes, .. }
        | ServerProtocol::Http1 { routes, .. }
        | ServerProtocol::Http2 { routes, .. } => {
            let found = select::http(routes, &head).ok_or(Reason::NoRoute)?;
            route_authorizations(found.route, found.rule.filters.is_empty())?
        }
        ServerProtocol::Grpc { routes } => {
            let found = select::grpc(routes, &head).ok_or(Reason::NoRoute)?;
            route_authorizations(found.route, found.rule.filters.is_empty())?
        }
        ServerProtocol::Opaque | ServerProtocol::Tls => &[],
    };
    let mut all = of_route.iter().chain(&policy.authorizations);
    let matches =
        |authorization: &&Authorization| allows(std::slice::from_ref(*authorization), caller.ip, &caller.tls).is_some();
    if all
        .clone()
        .any(|authorization| names_identities(authorization) && matches(&authorization))
    {
        Ok(Access::Named)
    } else if all.any(|authorization| matches(&authorization)) {
        Ok(Access::Allowed)
    } else {
        Err(Reason::Unauthorized)
    }
}

/// Authorizations of a route. The admin server applies no filters, so a route that has some serves nothing here.
fn route_authorizations<M>(route: &Route<M, Action>, is_plain: bool) -> Result<&[Authorization], Reason> {
    if is_plain {
        Ok(&route.authorizations)
    } else {
        Err(Reason::Forbidden)
    }
}

/// Returns true for an authorization that was written for identities; a default names none.
fn names_identities(authorization: &Authorization) -> bool {
    let is_default = matches!(authorization.meta, None | Some(Meta::Default(_)));
    !is_default && matches!(authorization.authentication, Authentication::TlsAuthenticated { .. })
}

#[cfg(test)]
mod tests;
