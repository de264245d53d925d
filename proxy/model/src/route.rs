//! Routes: what a request must look like, what happens to it, where it goes. Inbound and outbound share these types.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Method};

use crate::Meta;

/// A compiled regular expression that compares by its text. Anchored at both ends by [`Pattern::anchored`].
#[derive(Clone, Debug)]
pub struct Pattern {
    text: Arc<str>,
    regex: regex::Regex,
}

/// Why a regular expression was refused.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the regular expression {text:?} is invalid: {reason}")]
pub struct InvalidPattern {
    /// The expression as it was written.
    pub text: String,
    /// What the parser said.
    pub reason: String,
}

impl Pattern {
    /// Compiles `text`, anchored at both ends; [`Pattern::as_str`] gives it back as it was written.
    pub fn anchored(text: &str) -> Result<Self, InvalidPattern> {
        let regex = regex::RegexBuilder::new(&format!("^(?:{text})$"))
            .size_limit(crate::limits::REGEX_BYTES.value)
            .build()
            .map_err(|error| InvalidPattern {
                text: text.to_owned(),
                reason: error.to_string(),
            })?;
        Ok(Self {
            text: text.into(),
            regex,
        })
    }

    /// The expression as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the whole of `input` matches.
    pub fn is_match(&self, input: &str) -> bool {
        self.regex.is_match(input)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

/// A route with matches of kind `M` ([`HttpMatch`] or [`GrpcMatch`]) and rules that lead to `T`
/// (outbound: [`crate::outbound::Action`]; inbound: [`crate::inbound::Action`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Route<M, T> {
    /// The object that the route came from.
    pub meta: Meta,
    /// Hosts that it is for; empty is all.
    pub hosts: Vec<HostMatch>,
    /// Rules, in order.
    pub rules: Vec<Rule<M, T>>,
    /// What holds for the whole route (inbound: its own authorizations; outbound: nothing).
    pub authorizations: Vec<crate::inbound::Authorization>,
}

/// One rule of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule<M, T> {
    /// Matches; any of them suffices; empty matches everything.
    pub matches: Vec<M>,
    /// Filters, in order.
    pub filters: Vec<Filter>,
    /// What the rule leads to.
    pub action: T,
}

/// Which host a route is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostMatch {
    /// Exactly this name.
    Exact(String),
    /// Any name under this one; labels in reverse order (`["local", "cluster"]` is `*.cluster.local`).
    Suffix(Vec<String>),
}

/// What an HTTP request must look like. All parts must hold.
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

/// Which path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// Exactly this path.
    Exact(String),
    /// This path and all below it, by segments.
    Prefix(String),
    /// The whole path matches.
    Regex(Pattern),
}

/// Which header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatch {
    /// Name of the header.
    pub name: HeaderName,
    /// What its value must be.
    pub value: HeaderValueMatch,
}

/// Which value of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderValueMatch {
    /// Exactly these bytes.
    Exact(HeaderValue),
    /// The whole value matches.
    Regex(Pattern),
}

/// Which query parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryMatch {
    /// Name of the parameter.
    pub name: String,
    /// What its value must be.
    pub value: QueryValueMatch,
}

/// Which value of a query parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryValueMatch {
    /// Exactly this value.
    Exact(String),
    /// The whole value matches.
    Regex(Pattern),
}

/// What a gRPC request must look like. All parts must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrpcMatch {
    /// Service; none matches every service.
    pub service: Option<String>,
    /// Method; none matches every method.
    pub method: Option<String>,
    /// Headers.
    pub headers: Vec<HeaderMatch>,
    /// Whether the wire had an `rpc` message at all (kept so that an answer encodes as it was).
    pub has_rpc: bool,
}

/// What happens to a request or its response on the way.
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
    /// Answer with a redirect.
    Redirect(Redirect),
    /// Refuse: nothing may go there.
    Forbidden,
    /// Refuse: the route is invalid, for this reason.
    Invalid(String),
}

/// A share: `numerator / denominator`; `None` on the wire is everything.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Ratio {
    /// Part.
    pub numerator: u32,
    /// Whole; never 0.
    pub denominator: u32,
}

impl Ratio {
    /// Everything.
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

/// A redirect; what is `None` stays as the request had it.
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

/// How a redirect changes the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathModifier {
    /// The whole path.
    Full(String),
    /// The prefix that matched.
    Prefix(String),
}

/// Timeouts of a route.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// From the request fully sent to the response's end.
    pub response: Option<Duration>,
    /// The whole exchange, retries included.
    pub request: Option<Duration>,
    /// No frame in either direction.
    pub idle: Option<Duration>,
}

/// When and how often a request is sent again.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// Retries after the first attempt.
    pub max_retries: u16,
    /// Request body that is kept for a retry, in bytes.
    pub max_request_bytes: u32,
    /// HTTP statuses that are retried, as inclusive ranges.
    pub statuses: Vec<(u16, u16)>,
    /// gRPC codes that are retried.
    pub grpc: GrpcRetry,
    /// Time for one attempt until its response headers.
    pub timeout: Option<Duration>,
    /// Waits between attempts.
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

/// Exponential waits.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Backoff {
    /// First wait.
    pub min: Duration,
    /// Longest wait.
    pub max: Duration,
    /// Share of a wait that may be added at random.
    pub jitter: f32,
    /// Use the response's `retry-after` as first wait.
    pub respect_retry_after_hint: bool,
}
