//! Client policy: what the control plane says about a destination (`OutboundPolicies.Watch`).

use std::{sync::Arc, time::Duration};

use crate::{
    Endpoint, Meta,
    route::{Backoff, Filter, GrpcMatch, HostMatch, HttpMatch, Retry, Route, Rule, Timeouts},
};

/// A route of an HTTP destination.
pub type HttpRoute = Route<HttpMatch, Action>;
/// A route of a gRPC destination.
pub type GrpcRoute = Route<GrpcMatch, Action>;

/// The answer for one destination.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientPolicy {
    /// The object that the destination is (`parent_*` labels).
    pub meta: Meta,
    /// Protocol and routes.
    pub protocol: ClientProtocol,
}

/// Protocol of a destination, with its routes.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientProtocol {
    /// Decide from the first bytes.
    Detect {
        /// Time for the first bytes; afterwards the connection is opaque.
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
    /// Bytes.
    Opaque(Opaque),
    /// TLS of the application's own, routed by SNI.
    Tls(Tls),
}

/// HTTP routes and the breaker of the destination.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Http {
    /// Routes, best match wins.
    pub routes: Vec<HttpRoute>,
    /// Breaker; none means none.
    pub failure_accrual: Option<FailureAccrual>,
}

/// gRPC routes and the breaker of the destination.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grpc {
    /// Routes, best match wins.
    pub routes: Vec<GrpcRoute>,
    /// Breaker; none means none.
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
    /// Routes; best match of the SNI wins.
    pub routes: Vec<TcpRoute>,
}

/// A route for bytes. `snis` is used by [`Tls`] only.
#[derive(Clone, Debug, PartialEq)]
pub struct TcpRoute {
    /// The object that the route came from.
    pub meta: Meta,
    /// SNIs that it is for; empty is all.
    pub snis: Vec<HostMatch>,
    /// Rules; exactly one is valid.
    pub rules: Vec<Rule<(), Distribution>>,
}

/// What an HTTP or gRPC rule leads to.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    /// Where requests go.
    pub distribution: Distribution,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Retries; none means none.
    pub retry: Option<Retry>,
    /// Requests may set timeouts and retries by `l5d-*` headers.
    pub allow_l5d_request_headers: bool,
}

/// How requests are shared among backends.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Distribution {
    /// Nowhere.
    #[default]
    Empty,
    /// The first that is ready.
    FirstAvailable(Vec<RouteBackend>),
    /// At random by weight, among those that are ready.
    RandomAvailable(Vec<(RouteBackend, u32)>),
}

/// A backend as a route refers to it.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteBackend {
    /// The backend.
    pub backend: Arc<Backend>,
    /// Filters for requests that go there.
    pub filters: Vec<Filter>,
}

/// Where requests go.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// The object that it is (`backend_*` labels).
    pub meta: Meta,
    /// What it is made of; none is an invalid backend (502).
    pub dispatch: Option<Dispatch>,
    /// Queue, as upstream sends it; a proxy uses its own limits.
    pub queue: Option<Queue>,
}

/// What a backend is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum Dispatch {
    /// One address.
    Forward(Arc<Endpoint>),
    /// A balancer over what `Destination.Get` says about `path` (`name:port`).
    Balance {
        /// Path for `Destination.Get`.
        path: Arc<str>,
        /// How load is estimated.
        load: Load,
    },
}

/// How load is estimated.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Load {
    /// Peak EWMA of the response time, times requests under way.
    PeakEwma(PeakEwma),
    /// The same, with a penalty for responses that say "too much".
    PenaltyPeakEwma {
        /// Base estimate.
        ewma: PeakEwma,
        /// Penalty for one such response.
        penalty: Option<Duration>,
        /// Largest `retry-after` that counts.
        max_retry_after: Option<Duration>,
        /// Decay of penalties.
        penalty_decay: Option<Duration>,
    },
}

/// Parameters of the estimate.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct PeakEwma {
    /// What a new endpoint is taken for.
    pub default_rtt: Duration,
    /// Time over which an observation fades.
    pub decay: Duration,
}

/// Queue parameters as upstream sends them.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Requests.
    pub capacity: u32,
    /// Time that nothing may be ready.
    pub failfast_timeout: Option<Duration>,
}

/// When an endpoint is taken out.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum FailureAccrual {
    /// After failures in a row.
    Consecutive {
        /// Failures in a row.
        max_failures: u32,
        /// Time out of the pool.
        backoff: Option<Backoff>,
        /// Endpoints that must stay; 0 is no floor.
        min_ready: Option<u32>,
    },
    /// After failures in a row, or below a success rate.
    Unified {
        /// Success rate, 0.0 to 1.0; 0 switches it off.
        success_rate_threshold: f64,
        /// Window of the rate.
        decay: Option<Duration>,
        /// Requests before the rate counts.
        min_requests: u32,
        /// Failures in a row; 0 switches it off.
        max_consecutive_failures: u32,
        /// Time out of the pool.
        backoff: Option<Backoff>,
        /// Endpoints that must stay; 0 is no floor.
        min_ready: Option<u32>,
    },
    /// Only a floor was said, no policy.
    None {
        /// Endpoints that must stay; 0 is no floor.
        min_ready: Option<u32>,
    },
}
