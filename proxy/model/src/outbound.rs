//! Client policy: the control plane's answer for a destination (`OutboundPolicies.Watch`).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

pub use crate::backend::{Backend, Dispatch, Load, PeakEwma, Queue};
use crate::{
    Meta,
    profile::Target,
    route::{Backoff, Filter, GrpcMatch, HostMatch, HttpMatch, Retry, Route, Rule, Timeouts},
};

/// A route of an HTTP destination.
pub type HttpRoute = Route<HttpMatch, Action>;
/// A route of a gRPC destination.
pub type GrpcRoute = Route<GrpcMatch, Action>;

/// Targets by the Service whose place they take, as `name:port`.
pub type Targets = BTreeMap<Arc<str>, Vec<Target>>;

/// Policy of one destination.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientPolicy {
    /// Object of the destination (`parent_*` labels).
    pub meta: Meta,
    /// Protocol and routes.
    pub protocol: ClientProtocol,
    /// Targets that take the place of Services in the rules; the routes of the profile apply over these. Our extension,
    /// never on upstream's wire: without it a profile with routes or targets replaces the routes of the policy.
    pub targets: Option<Targets>,
}

/// Protocol of a destination, with its routes.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientProtocol {
    /// Detected from the first bytes.
    Detect {
        /// Time for the first bytes, after which the connection is opaque.
        timeout: Duration,
        /// For HTTP/1.
        http1: Http,
        /// For HTTP/2.
        http2: Http,
        /// For anything else.
        opaque: Opaque,
    },
    /// HTTP/1 without detection.
    Http1(Http),
    /// HTTP/2 without detection.
    Http2(Http),
    /// gRPC without detection.
    Grpc(Grpc),
    /// Opaque bytes.
    Opaque(Opaque),
    /// TLS of the application's own, routed by SNI.
    Tls(Tls),
}

/// HTTP routes and the breaker of the destination.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Http {
    /// Routes; the best match wins.
    pub routes: Vec<HttpRoute>,
    /// Breaker, if any.
    pub failure_accrual: Option<FailureAccrual>,
}

/// gRPC routes and the breaker of the destination.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grpc {
    /// Routes; the best match wins.
    pub routes: Vec<GrpcRoute>,
    /// Breaker, if any.
    pub failure_accrual: Option<FailureAccrual>,
}

/// Routes of an opaque destination: none or one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Opaque {
    /// Routes; the first decides.
    pub routes: Vec<TcpRoute>,
}

/// Routes by SNI.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tls {
    /// Routes; the best match of the SNI wins.
    pub routes: Vec<TcpRoute>,
}

/// Route of opaque connections. `snis` is used by [`Tls`] only.
#[derive(Clone, Debug, PartialEq)]
pub struct TcpRoute {
    /// The object that the route came from.
    pub meta: Meta,
    /// SNIs of the route; empty is all.
    pub snis: Vec<HostMatch>,
    /// Rules; exactly one is valid.
    pub rules: Vec<Rule<(), Distribution>>,
}

/// Action of an HTTP or gRPC rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    /// Backends of the requests.
    pub distribution: Distribution,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Retries, if any.
    pub retry: Option<Retry>,
    /// Requests may override timeouts and retries by `l5d-*` headers.
    pub allow_l5d_request_headers: bool,
}

/// Distribution of requests over backends.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Distribution {
    /// No backend.
    #[default]
    Empty,
    /// The first that is ready.
    FirstAvailable(Vec<RouteBackend>),
    /// Random by weight, among those that are ready.
    RandomAvailable(Vec<(RouteBackend, u32)>),
}

impl Distribution {
    /// Backend at a position.
    pub fn backend(&self, index: usize) -> Option<&RouteBackend> {
        match self {
            Self::Empty => None,
            Self::FirstAvailable(backends) => backends.get(index),
            Self::RandomAvailable(backends) => backends.get(index).map(|(backend, _)| backend),
        }
    }

    /// Backend at a position, to change.
    pub fn backend_mut(&mut self, index: usize) -> Option<&mut RouteBackend> {
        match self {
            Self::Empty => None,
            Self::FirstAvailable(backends) => backends.get_mut(index),
            Self::RandomAvailable(backends) => backends.get_mut(index).map(|(backend, _)| backend),
        }
    }

    /// Backends, as the rule refers to them.
    pub fn backends(&self) -> impl Iterator<Item = &RouteBackend> {
        let (first, random) = match self {
            Self::Empty => (&[][..], &[][..]),
            Self::FirstAvailable(backends) => (backends.as_slice(), &[][..]),
            Self::RandomAvailable(backends) => (&[][..], backends.as_slice()),
        };
        first.iter().chain(random.iter().map(|(backend, _)| backend))
    }
}

/// A backend as a route refers to it.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteBackend {
    /// The backend.
    pub backend: Arc<Backend>,
    /// Filters for requests to this backend.
    pub filters: Vec<Filter>,
}

/// Endpoints of a service that stay, however they fail.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Ejection {
    /// Endpoints that must stay; 0 lets all be ejected, and without a figure the last of several stays.
    pub min_ready: Option<u32>,
    /// Largest share of the endpoints that is ejected at a time, in percent. Unless it is 0, one may always be.
    pub max_percent: Option<u32>,
}

/// Condition that ejects an endpoint.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum FailureAccrual {
    /// After failures in a row.
    Consecutive {
        /// Failures in a row.
        max_failures: u32,
        /// Time that the endpoint stays ejected.
        backoff: Option<Backoff>,
        /// Endpoints that stay.
        ejection: Ejection,
    },
    /// After failures in a row, or below a success rate.
    Unified {
        /// Success rate, 0.0 to 1.0; 0 disables it.
        success_rate_threshold: f64,
        /// Window of the rate.
        decay: Option<Duration>,
        /// Requests before the rate counts.
        min_requests: u32,
        /// Failures in a row; 0 disables it.
        max_consecutive_failures: u32,
        /// Time that the endpoint stays ejected.
        backoff: Option<Backoff>,
        /// Endpoints that stay.
        ejection: Ejection,
    },
    /// Never; only the floor is set.
    None {
        /// Endpoints that stay.
        ejection: Ejection,
    },
}

impl FailureAccrual {
    /// Endpoints that stay.
    pub fn ejection(&self) -> Ejection {
        let (Self::Consecutive { ejection, .. } | Self::Unified { ejection, .. } | Self::None { ejection }) = self;
        *ejection
    }

    /// Endpoints that stay, to change.
    pub fn ejection_mut(&mut self) -> &mut Ejection {
        let (Self::Consecutive { ejection, .. } | Self::Unified { ejection, .. } | Self::None { ejection }) = self;
        ejection
    }
}

impl ClientProtocol {
    /// Distributions of all rules.
    pub fn distributions(&self) -> Vec<&Distribution> {
        match self {
            Self::Detect {
                http1, http2, opaque, ..
            } => {
                let http = actions(&http1.routes).chain(actions(&http2.routes));
                http.chain(connections(&opaque.routes)).collect()
            }
            Self::Http1(http) | Self::Http2(http) => actions(&http.routes).collect(),
            Self::Grpc(grpc) => actions(&grpc.routes).collect(),
            Self::Opaque(Opaque { routes }) | Self::Tls(Tls { routes }) => connections(routes).collect(),
        }
    }

    /// Breakers of the destination.
    pub fn failure_accruals(&self) -> impl Iterator<Item = &FailureAccrual> {
        let [first, second] = match self {
            Self::Detect { http1, http2, .. } => [&http1.failure_accrual, &http2.failure_accrual],
            Self::Http1(http) | Self::Http2(http) => [&http.failure_accrual, &None],
            Self::Grpc(grpc) => [&grpc.failure_accrual, &None],
            Self::Opaque(_) | Self::Tls(_) => [&None, &None],
        };
        first.iter().chain(second)
    }

    /// Breakers of the destination, to change.
    pub fn failure_accruals_mut(&mut self) -> impl Iterator<Item = &mut FailureAccrual> {
        let (first, second) = match self {
            Self::Detect { http1, http2, .. } => (http1.failure_accrual.as_mut(), http2.failure_accrual.as_mut()),
            Self::Http1(http) | Self::Http2(http) => (http.failure_accrual.as_mut(), None),
            Self::Grpc(grpc) => (grpc.failure_accrual.as_mut(), None),
            Self::Opaque(_) | Self::Tls(_) => (None, None),
        };
        first.into_iter().chain(second)
    }
}

fn actions<M>(routes: &[Route<M, Action>]) -> impl Iterator<Item = &Distribution> {
    let rules = routes.iter().flat_map(|route| &route.rules);
    rules.map(|rule| &rule.action.distribution)
}

fn connections(routes: &[TcpRoute]) -> impl Iterator<Item = &Distribution> {
    routes.iter().flat_map(|route| &route.rules).map(|rule| &rule.action)
}
