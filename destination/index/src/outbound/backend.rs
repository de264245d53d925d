//! Backends: balancers over Services, addresses outside the cluster, and missing backends.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use destination_k8s::{keys, route::BackendRef};
use proxy_model::{
    Backend, Endpoint, Meta,
    outbound::{Dispatch, Load, PeakEwma, Queue, RouteBackend},
    route::{Filter, Ratio},
};

use crate::{filter, reader::Reader, route::Unsupported};

use super::Apex;

const EWMA: PeakEwma = PeakEwma {
    default_rtt: Duration::from_millis(30),
    decay: Duration::from_secs(10),
};
/// Default estimator of load.
pub(super) const PLAIN: Load = Load::PeakEwma(EWMA);
/// Queue parameters, as upstream sends them.
const QUEUE: Queue = Queue {
    capacity: 100,
    failfast_timeout: Some(Duration::from_secs(3)),
};

/// Returns the estimator that penalizes failures.
pub(super) fn penalizing(penalty: Duration, max_retry_after: Duration) -> Load {
    Load::PenaltyPeakEwma {
        ewma: EWMA,
        penalty: Some(penalty),
        max_retry_after: Some(max_retry_after),
        penalty_decay: Some(Duration::from_secs(10)),
    }
}

/// Makes a balancer over the endpoints of `path`, by `Destination.Get`.
pub(super) fn balancer(meta: Meta, path: &str, load: Load) -> Backend {
    Backend {
        meta,
        dispatch: Some(Dispatch::Balance {
            path: path.into(),
            load,
        }),
        queue: Some(QUEUE),
    }
}

/// Makes a backend of one address.
pub(super) fn forward(meta: Meta, addr: SocketAddr) -> Backend {
    let endpoint = Endpoint {
        weight: 1,
        ..Endpoint::bare(addr)
    };
    Backend {
        meta,
        dispatch: Some(Dispatch::Forward(Arc::new(endpoint))),
        queue: Some(QUEUE),
    }
}

/// Protocol in which a failure is expressed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Http,
    Grpc,
    /// None: the connection is closed.
    Opaque,
}

impl Failure {
    fn filter(self, message: String) -> Filter {
        match self {
            Self::Http => Filter::FailHttp {
                status: 500,
                message,
                ratio: Ratio::ALL,
            },
            // UNAVAILABLE; upstream's value there is an HTTP status, which no gRPC client understands.
            Self::Grpc => Filter::FailGrpc {
                code: 14,
                message,
                ratio: Ratio::ALL,
            },
            Self::Opaque => Filter::Invalid(message),
        }
    }
}

/// Returns true if a reference is to a Service.
pub(super) fn is_service(found: &BackendRef) -> bool {
    let group = found.group.as_deref().unwrap_or_default();
    matches!(group, "" | keys::CORE_GROUP) && matches!(found.kind.as_deref(), None | Some("Service"))
}

/// Resolves the backend of a mirror; none if it does not exist.
pub(super) fn mirror(
    reader: &Reader<'_>,
    apex: &Apex<'_>,
    found: &BackendRef,
    own: (&str, Failure),
) -> Result<Option<Arc<Backend>>, Unsupported> {
    if !is_service(found) {
        return Err(Unsupported::Backend(found.kind.clone().unwrap_or_default()));
    }
    let resolved = resolve(reader, apex, found, own)?;
    Ok(Some(resolved.backend).filter(|backend| backend.dispatch.is_some()))
}

/// Resolves a backend of a rule. A missing one keeps its share and fails it with a message.
pub(super) fn resolve(
    reader: &Reader<'_>,
    apex: &Apex<'_>,
    found: &BackendRef,
    own: (&str, Failure),
) -> Result<RouteBackend, Unsupported> {
    let (route_ns, failure) = own;
    let filters = filter::backend(found)?;
    let ns = found.namespace.as_deref().unwrap_or(route_ns);
    let group = found.group.as_deref().unwrap_or_default();
    let kind = found.kind();
    let fails = |meta: Meta, message: String| RouteBackend {
        backend: Arc::new(Backend {
            meta,
            dispatch: None,
            queue: Some(QUEUE),
        }),
        filters: vec![failure.filter(message)],
    };
    let name = &found.name;
    match (group, kind) {
        ("" | keys::CORE_GROUP, "Service") => {
            let meta = Meta::resource(keys::CORE_GROUP, "Service", ns, name);
            let Some(port) = found.port else {
                return Ok(fails(meta, format!("the reference to Service {name} has no port")));
            };
            let meta = meta.with_port(port);
            if reader.service(ns, name).is_none() {
                return Ok(fails(meta, format!("Service not found {name}")));
            }
            let path = format!("{name}.{ns}.svc.{}:{port}", reader.config.cluster_domain);
            Ok(RouteBackend {
                backend: Arc::new(balancer(meta, &path, PLAIN)),
                filters,
            })
        }
        (keys::POLICY_GROUP, "EgressNetwork") => {
            let is_parent = *apex.parent.name == **name && *apex.parent.namespace == *ns;
            match apex.egress.filter(|_| is_parent) {
                Some(addr) => Ok(RouteBackend {
                    backend: Arc::new(forward(apex.meta.clone(), addr)),
                    filters,
                }),
                None => {
                    let meta = Meta::resource(keys::POLICY_GROUP, "EgressNetwork", ns, name);
                    Ok(fails(
                        meta,
                        format!("EgressNetwork {name} is not the parent of the route"),
                    ))
                }
            }
        }
        _ => Err(Unsupported::Backend(kind.to_owned())),
    }
}
