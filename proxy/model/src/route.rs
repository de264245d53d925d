//! Routes: conditions on requests, filters, actions. Inbound and outbound share these types.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Method};

pub use crate::pattern::{InvalidPattern, Pattern};
use crate::{Meta, backend::Backend};

/// A route with matches of kind `M` ([`HttpMatch`] or [`GrpcMatch`]) and rules that lead to `T`
/// (outbound: [`crate::outbound::Action`]; inbound: [`crate::inbound::Action`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Route<M, T> {
    /// The object that the route came from.
    pub meta: Meta,
    /// Hosts of the route; empty is all.
    pub hosts: Vec<HostMatch>,
    /// Rules, in order.
    pub rules: Vec<Rule<M, T>>,
    /// Authorizations of the route itself; outbound has none.
    pub authorizations: Vec<crate::inbound::Authorization>,
}

/// One rule of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule<M, T> {
    /// Conditions, of which one must hold; an empty list matches all requests.
    pub matches: Vec<M>,
    /// Filters, in order.
    pub filters: Vec<Filter>,
    /// Action for requests that match.
    pub action: T,
}

/// Condition on the host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostMatch {
    /// Exactly this name.
    Exact(String),
    /// Any name under this one; labels in reverse order (`["local", "cluster"]` is `*.cluster.local`).
    Suffix(Vec<String>),
}

/// Condition on an HTTP request. All parts must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpMatch {
    /// Path; none matches every path.
    pub path: Option<PathMatch>,
    /// Headers.
    pub headers: Vec<HeaderMatch>,
    /// Query parameters.
    pub query: Vec<QueryMatch>,
    /// Method.
    pub method: Option<Method>,
}

/// Condition on the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// Exactly this path.
    Exact(String),
    /// This path and all below it, by segments.
    Prefix(String),
    /// The whole path matches.
    Regex(Pattern),
}

/// Condition on a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatch {
    /// Name of the header.
    pub name: HeaderName,
    /// Condition on the value.
    pub value: HeaderValueMatch,
}

/// Condition on a header's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderValueMatch {
    /// Exactly these bytes.
    Exact(HeaderValue),
    /// The whole value matches.
    Regex(Pattern),
}

/// Condition on a query parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryMatch {
    /// Name of the parameter.
    pub name: String,
    /// Condition on the value.
    pub value: QueryValueMatch,
}

/// Condition on a query parameter's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryValueMatch {
    /// Exactly this value.
    Exact(String),
    /// The whole value matches.
    Regex(Pattern),
}

/// Condition on a gRPC request. All parts must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrpcMatch {
    /// Service; none matches every service.
    pub service: Option<String>,
    /// Method; none matches every method.
    pub method: Option<String>,
    /// Headers.
    pub headers: Vec<HeaderMatch>,
    /// The message `rpc` was on the wire (kept so that an answer encodes as it was decoded).
    pub has_rpc: bool,
}

/// Change to a request or response, or an answer in its stead.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// Answer with this HTTP status instead of forwarding.
    FailHttp {
        /// Status to answer with.
        status: u16,
        /// Text for `l5d-proxy-error`.
        message: String,
        /// Share of requests that fail.
        ratio: Ratio,
    },
    /// Answer with this gRPC status instead of forwarding.
    FailGrpc {
        /// gRPC code to answer with.
        code: u16,
        /// Text for `grpc-message`.
        message: String,
        /// Share of requests that fail.
        ratio: Ratio,
    },
    /// Change the request's headers.
    RequestHeaders(HeaderModifier),
    /// Change the response's headers.
    ResponseHeaders(HeaderModifier),
    /// Answer with a redirect; a request that is at its location already passes.
    Redirect(Redirect),
    /// Change the request's host or path.
    Rewrite(Rewrite),
    /// Send a copy of the request to another backend too.
    Mirror(Mirror),
    /// Reject: the route is forbidden.
    Forbidden,
    /// Reject: the route is invalid, for this reason.
    Invalid(String),
}

/// A share: `numerator / denominator`; `None` on the wire means all.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Ratio {
    /// Part of the whole.
    pub numerator: u32,
    /// Whole; never 0.
    pub denominator: u32,
}

impl Ratio {
    /// All.
    pub const ALL: Self = Self {
        numerator: 1,
        denominator: 1,
    };
}

/// Changes to headers: `add` appends, `set` replaces, `remove` deletes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderModifier {
    /// Values to append.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Values to replace with.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Names to delete.
    pub remove: Vec<HeaderName>,
}

/// A redirect; parts that are `None` stay as in the request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirect {
    /// Scheme, lower case.
    pub scheme: Option<String>,
    /// Host.
    pub host: Option<String>,
    /// Path.
    pub path: Option<PathModifier>,
    /// Port.
    pub port: Option<u16>,
    /// Status; 301 if none.
    pub status: Option<u16>,
}

/// A rewrite; parts that are `None` stay as in the request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Host, which also replaces the port.
    pub host: Option<String>,
    /// Path; the query stays.
    pub path: Option<PathModifier>,
}

/// A mirror of requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Mirror {
    /// Backend of the copies.
    pub backend: Arc<Backend>,
    /// Share of the requests that is copied.
    pub ratio: Ratio,
}

/// Change of the path by a redirect or a rewrite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathModifier {
    /// Replaces the whole path.
    Full(String),
    /// Replaces the prefix that matched.
    Prefix(String),
}

/// Timeouts of a route.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// From the end of the request to the end of the response.
    pub response: Option<Duration>,
    /// For the whole exchange, retries included.
    pub request: Option<Duration>,
    /// Without a frame in either direction.
    pub idle: Option<Duration>,
}

/// Conditions and number of retries.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// Retries after the first attempt.
    pub max_retries: u16,
    /// Bytes of a request body kept for retries.
    pub max_request_bytes: u32,
    /// HTTP statuses that are retried, as inclusive ranges.
    pub statuses: Vec<(u16, u16)>,
    /// gRPC codes that are retried.
    pub grpc: GrpcRetry,
    /// Time for one attempt until its response headers.
    pub timeout: Option<Duration>,
    /// Pauses between attempts.
    pub backoff: Option<Backoff>,
}

/// gRPC codes that are retried.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct GrpcRetry {
    /// Code 1.
    pub cancelled: bool,
    /// Code 4.
    pub deadline_exceeded: bool,
    /// Code 8.
    pub resource_exhausted: bool,
    /// Code 13.
    pub internal: bool,
    /// Code 14.
    pub unavailable: bool,
}

/// Exponential pauses.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Backoff {
    /// First pause.
    pub min: Duration,
    /// Longest pause.
    pub max: Duration,
    /// Share of a pause that may be added at random.
    pub jitter: f32,
    /// Use the response's `retry-after` as first pause.
    pub respect_retry_after_hint: bool,
}
