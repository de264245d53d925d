//! Distributions and backends of outbound routes.

use std::sync::Arc;

use linkerd2_proxy_api::outbound::{
    Backend as WireBackend, Queue as WireQueue,
    backend::{
        BalanceP2c, EndpointDiscovery, Kind,
        balance_p2c::{self as balance, Load as WireLoad},
        endpoint_discovery as discovery,
    },
};
use proxy_model::outbound::{Backend, Dispatch, Load, PeakEwma, Queue};

use crate::{
    Error, Result,
    destination::{decode_endpoint, encode_endpoint},
    error::{optional, required},
    meta::{decode_full_meta, encode_meta},
    net::{decode_duration, encode_duration},
};

/// Decodes and encodes the distribution of one kind of route; the wire has four that differ only in name.
macro_rules! distribution {
    ($(#[$doc:meta])* $name:ident, $wire:ident, $filter:ident $(, $rest:expr)?) => {
        $(#[$doc])*
        pub(crate) mod $name {
            use linkerd2_proxy_api::outbound::$wire::{
                Distribution as Wire, RouteBackend as WireBackend, WeightedRouteBackend,
                distribution::{Empty, FirstAvailable, Kind, RandomAvailable},
            };
            use proxy_model::outbound::{Distribution, RouteBackend};

            use super::{Interner, decode_backend, encode_backend};
            use crate::{Error, Result, error::{each, required}, filter::$filter as filter};

            pub(crate) fn decode(wire: Wire, interner: &Interner) -> Result<Distribution> {
                match wire.kind.ok_or_else(|| Error::missing("kind"))? {
                    Kind::Empty(_) => Ok(Distribution::Empty),
                    Kind::FirstAvailable(first) => {
                        each("first_available.backends", first.backends, |wire| backend(wire, interner))
                            .map(Distribution::FirstAvailable)
                    }
                    Kind::RandomAvailable(random) => {
                        let weighted = |wire: WeightedRouteBackend| {
                            Ok((required("backend", wire.backend, |wire| backend(wire, interner))?, wire.weight))
                        };
                        each("random_available.backends", random.backends, weighted).map(Distribution::RandomAvailable)
                    }
                }
            }

            pub(crate) fn encode(distribution: &Distribution) -> Wire {
                let kind = match distribution {
                    Distribution::Empty => Kind::Empty(Empty {}),
                    Distribution::FirstAvailable(backends) => {
                        Kind::FirstAvailable(FirstAvailable { backends: backends.iter().map(wire_backend).collect() })
                    }
                    Distribution::RandomAvailable(backends) => {
                        let weighted = |(backend, weight): &(RouteBackend, u32)| {
                            WeightedRouteBackend { backend: Some(wire_backend(backend)), weight: *weight }
                        };
                        Kind::RandomAvailable(RandomAvailable { backends: backends.iter().map(weighted).collect() })
                    }
                };
                Wire { kind: Some(kind) }
            }

            fn backend(wire: WireBackend, interner: &Interner) -> Result<RouteBackend> {
                let backend = required("backend", wire.backend, decode_backend)?;
                let filters = each("filters", wire.filters, filter::decode)?;
                Ok(RouteBackend { backend: interner.intern(backend), filters })
            }

            fn wire_backend(backend: &RouteBackend) -> WireBackend {
                WireBackend {
                    backend: Some(encode_backend(&backend.backend)),
                    filters: backend.filters.iter().filter_map(filter::encode).collect(),
                    $(..$rest)?
                }
            }
        }
    };
}

distribution! {
    /// Distributions of HTTP routes.
    http, http_route, outbound_http, Default::default()
}
distribution! {
    /// Distributions of gRPC routes.
    grpc, grpc_route, outbound_grpc, Default::default()
}
distribution! {
    /// Distributions of opaque routes.
    opaque, opaque_route, opaque
}
distribution! {
    /// Distributions of TLS routes.
    tls, tls_route, tls
}

/// Shares equal backends of one message: a policy names the same backend in many rules.
#[derive(Default)]
pub(crate) struct Interner(std::cell::RefCell<Vec<Arc<Backend>>>);

impl Interner {
    fn intern(&self, backend: Backend) -> Arc<Backend> {
        let mut known = self.0.borrow_mut();
        if let Some(same) = known.iter().find(|same| ***same == backend) {
            return same.clone();
        }
        let backend = Arc::new(backend);
        known.push(backend.clone());
        backend
    }
}

pub(crate) fn decode_backend(wire: WireBackend) -> Result<Backend> {
    Ok(Backend {
        meta: required("metadata", wire.metadata, decode_full_meta)?,
        dispatch: wire.kind.map(decode_dispatch).transpose()?,
        queue: Some(required("queue", wire.queue, decode_queue)?),
    })
}

pub(crate) fn encode_backend(backend: &Backend) -> WireBackend {
    WireBackend {
        metadata: Some(encode_meta(&backend.meta)),
        kind: backend.dispatch.as_ref().map(encode_dispatch),
        queue: backend.queue.as_ref().map(encode_queue),
    }
}

fn decode_queue(wire: WireQueue) -> Result<Queue> {
    let failfast_timeout = optional("failfast_timeout", wire.failfast_timeout, decode_duration)?;
    Ok(Queue {
        capacity: wire.capacity,
        failfast_timeout,
    })
}

fn encode_queue(queue: &Queue) -> WireQueue {
    WireQueue {
        capacity: queue.capacity,
        failfast_timeout: queue.failfast_timeout.map(encode_duration),
    }
}

fn decode_dispatch(wire: Kind) -> Result<Dispatch> {
    match wire {
        Kind::Forward(addr) => decode_endpoint(addr).map(|endpoint| Dispatch::Forward(Arc::new(endpoint))),
        Kind::Balancer(balancer) => {
            let discovery = balancer.discovery.and_then(|discovery| discovery.kind);
            let Some(discovery::Kind::Dst(dst)) = discovery else {
                return Err(Error::missing("balancer.discovery.dst"));
            };
            if dst.path.is_empty() {
                return Err(Error::invalid("balancer.discovery.dst.path", "is empty"));
            }
            let load = required("balancer.load", balancer.load, decode_load)?;
            Ok(Dispatch::Balance {
                path: dst.path.into(),
                load,
            })
        }
    }
}

fn encode_dispatch(dispatch: &Dispatch) -> Kind {
    match dispatch {
        Dispatch::Forward(endpoint) => Kind::Forward(encode_endpoint(endpoint)),
        Dispatch::Balance { path, load } => {
            let dst = discovery::DestinationGet { path: path.to_string() };
            let discovery = EndpointDiscovery {
                kind: Some(discovery::Kind::Dst(dst)),
            };
            Kind::Balancer(BalanceP2c {
                discovery: Some(discovery),
                load: Some(encode_load(*load)),
            })
        }
    }
}

fn decode_load(wire: WireLoad) -> Result<Load> {
    match wire {
        WireLoad::PeakEwma(ewma) => Ok(Load::PeakEwma(PeakEwma {
            default_rtt: required("default_rtt", ewma.default_rtt, decode_duration)?,
            decay: required("decay", ewma.decay, decode_duration)?,
        })),
        WireLoad::PenaltyPeakEwma(ewma) => Ok(Load::PenaltyPeakEwma {
            ewma: PeakEwma {
                default_rtt: required("default_rtt", ewma.default_rtt, decode_duration)?,
                decay: required("decay", ewma.decay, decode_duration)?,
            },
            penalty: optional("penalty", ewma.penalty, decode_duration)?,
            max_retry_after: optional("max_retry_after", ewma.max_retry_after, decode_duration)?,
            penalty_decay: optional("penalty_decay", ewma.penalty_decay, decode_duration)?,
        }),
    }
}

fn encode_load(load: Load) -> WireLoad {
    match load {
        Load::PeakEwma(ewma) => WireLoad::PeakEwma(balance::PeakEwma {
            default_rtt: Some(encode_duration(ewma.default_rtt)),
            decay: Some(encode_duration(ewma.decay)),
        }),
        Load::PenaltyPeakEwma {
            ewma,
            penalty,
            max_retry_after,
            penalty_decay,
        } => WireLoad::PenaltyPeakEwma(balance::PenaltyPeakEwma {
            default_rtt: Some(encode_duration(ewma.default_rtt)),
            decay: Some(encode_duration(ewma.decay)),
            penalty: penalty.map(encode_duration),
            max_retry_after: max_retry_after.map(encode_duration),
            penalty_decay: penalty_decay.map(encode_duration),
        }),
    }
}
