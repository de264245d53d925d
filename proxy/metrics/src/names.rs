//! Families of metrics: name, help, kind, and the part of the text that each is printed in.
//!
//! Names of labels that other components read are here, too.

/// Unit of a family, and its form in the text.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Milliseconds with integer bounds, kept in microseconds; the older form.
    LatencyMs,
    /// Seconds, kept in microseconds; bounds in microseconds.
    Seconds(&'static [u64]),
    /// Bytes.
    Bytes(&'static [u64]),
    /// Microseconds since the process began, printed as seconds since then.
    Age,
    /// Unix time in seconds.
    Timestamp,
}

/// Part of the text that a family is printed in. Consumers of Linkerd know both forms.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// First part, names as they are.
    Legacy,
    /// Second part: a counter's `_total` is on its samples only, `le` comes first.
    Registry,
}

/// One family.
#[derive(Debug)]
pub struct Family {
    /// Name; without `_total` for counters of the second part.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Unit and form.
    pub kind: Kind,
    /// Part of the text.
    pub part: Part,
    pub(crate) index: usize,
}

impl Family {
    /// Bounds of a histogram, in the unit that its cells have.
    pub(crate) fn bounds(&self) -> &'static [u64] {
        match self.kind {
            Kind::LatencyMs => LATENCY_US,
            Kind::Seconds(bounds) | Kind::Bytes(bounds) => bounds,
            Kind::Counter | Kind::Gauge | Kind::Age | Kind::Timestamp => &[],
        }
    }

    pub(crate) fn is_histogram(&self) -> bool {
        !self.bounds().is_empty()
    }
}

/// Bounds of all latencies in milliseconds, as consumers expect them; kept in microseconds.
pub(crate) const LATENCY_US: &[u64] = &[
    1_000, 2_000, 3_000, 4_000, 5_000, 10_000, 20_000, 30_000, 40_000, 50_000, 100_000, 200_000, 300_000, 400_000,
    500_000, 1_000_000, 2_000_000, 3_000_000, 4_000_000, 5_000_000, 10_000_000, 20_000_000, 30_000_000, 40_000_000,
    50_000_000,
];
const ROUTE_SECONDS: &[u64] = &[50_000, 500_000, 1_000_000, 10_000_000];
const BACKEND_SECONDS: &[u64] = &[25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 10_000_000];
const DETECT_SECONDS: &[u64] = &[1_000, 100_000];

macro_rules! families {
    ($($(#[$doc:meta])* $ident:ident = $part:ident $kind:expr, $name:literal, $help:literal;)*) => {
        families!(@ [0usize] $($ident $part ($kind) $name $help [$($doc),*],)*);
        /// All families, in the order of the text.
        pub const ALL: &[&Family] = &[$(&$ident),*];
    };
    (@ [$n:expr] $ident:ident $part:ident ($kind:expr) $name:literal $help:literal [$($doc:meta),*], $($rest:tt)*) => {
        $(#[$doc])*
        #[doc = $help]
        pub static $ident: Family =
            Family { name: $name, help: $help, kind: $kind, part: Part::$part, index: $n };
        families!(@ [$n + 1] $($rest)*);
    };
    (@ [$n:expr]) => {};
}

families! {
    REQUEST_TOTAL = Legacy Kind::Counter, "request_total", "Total count of HTTP requests.";
    RESPONSE_TOTAL = Legacy Kind::Counter, "response_total", "Total count of HTTP responses.";
    RESPONSE_LATENCY = Legacy Kind::LatencyMs, "response_latency_ms", "Time from a request's head to the first of its response's body.";
    ROUTE_REQUEST_TOTAL = Legacy Kind::Counter, "route_request_total", "Total count of HTTP requests by route.";
    ROUTE_RESPONSE_TOTAL = Legacy Kind::Counter, "route_response_total", "Total count of HTTP responses by route.";
    ROUTE_RESPONSE_LATENCY = Legacy Kind::LatencyMs, "route_response_latency_ms", "Time from a request's head to the first of its response's body, by route.";
    ROUTE_RETRYABLE_TOTAL = Legacy Kind::Counter, "route_retryable_total", "Total count of responses that could be retried; with `skipped` where they were not.";
    ROUTE_ACTUAL_REQUEST_TOTAL = Legacy Kind::Counter, "route_actual_request_total", "Total count of attempts by route.";
    ROUTE_ACTUAL_RESPONSE_TOTAL = Legacy Kind::Counter, "route_actual_response_total", "Total count of responses to attempts by route.";
    CONTROL_REQUEST_TOTAL = Legacy Kind::Counter, "control_request_total", "Total count of requests to the control plane.";
    CONTROL_RESPONSE_TOTAL = Legacy Kind::Counter, "control_response_total", "Total count of responses of the control plane.";
    CONTROL_RESPONSE_LATENCY = Legacy Kind::LatencyMs, "control_response_latency_ms", "Time from a request to the control plane to its response.";
    TCP_OPEN_TOTAL = Legacy Kind::Counter, "tcp_open_total", "Total count of opened connections.";
    TCP_OPEN_CONNECTIONS = Legacy Kind::Gauge, "tcp_open_connections", "Number of currently-open connections.";
    TCP_READ_BYTES_TOTAL = Legacy Kind::Counter, "tcp_read_bytes_total", "Total count of bytes read from peers.";
    TCP_WRITE_BYTES_TOTAL = Legacy Kind::Counter, "tcp_write_bytes_total", "Total count of bytes written to peers.";
    TCP_CLOSE_TOTAL = Legacy Kind::Counter, "tcp_close_total", "Total count of closed connections.";
    INBOUND_HTTP_AUTHZ_ALLOW_TOTAL = Legacy Kind::Counter, "inbound_http_authz_allow_total", "Total count of HTTP requests that were authorized.";
    INBOUND_HTTP_AUTHZ_DENY_TOTAL = Legacy Kind::Counter, "inbound_http_authz_deny_total", "Total count of HTTP requests that were denied.";
    INBOUND_HTTP_ROUTE_NOT_FOUND_TOTAL = Legacy Kind::Counter, "inbound_http_route_not_found_total", "Total count of HTTP requests without a route.";
    INBOUND_HTTP_LOCAL_RATELIMIT_TOTAL = Legacy Kind::Counter, "inbound_http_local_ratelimit_total", "Total count of HTTP requests that a rate limit decided on.";
    INBOUND_TCP_AUTHZ_ALLOW_TOTAL = Legacy Kind::Counter, "inbound_tcp_authz_allow_total", "Total count of connections that were authorized.";
    INBOUND_TCP_AUTHZ_DENY_TOTAL = Legacy Kind::Counter, "inbound_tcp_authz_deny_total", "Total count of connections that were denied.";
    INBOUND_TCP_AUTHZ_TERMINATE_TOTAL = Legacy Kind::Counter, "inbound_tcp_authz_terminate_total", "Total count of connections that a changed policy ended.";
    INBOUND_HTTP_ERRORS_TOTAL = Legacy Kind::Counter, "inbound_http_errors_total", "Total count of inbound HTTP errors of the proxy's own.";
    INBOUND_TCP_ERRORS_TOTAL = Legacy Kind::Counter, "inbound_tcp_errors_total", "Total count of inbound connections that failed.";
    OUTBOUND_HTTP_ERRORS_TOTAL = Legacy Kind::Counter, "outbound_http_errors_total", "Total count of outbound HTTP errors of the proxy's own.";
    OUTBOUND_TCP_ERRORS_TOTAL = Legacy Kind::Counter, "outbound_tcp_errors_total", "Total count of outbound connections that failed.";

    INBOUND_TCP_DETECT_HTTP_DURATION = Registry Kind::Seconds(DETECT_SECONDS), "inbound_tcp_detect_http_duration_seconds", "Time to detect the protocol";
    INBOUND_TCP_DETECT_HTTP_RESULTS = Registry Kind::Counter, "inbound_tcp_detect_http_results", "Results of protocol detection";
    INBOUND_TCP_TRANSPORT_HEADER_CONNECTIONS = Registry Kind::Counter, "inbound_tcp_transport_header_connections", "Connections with a transport header";
    OUTBOUND_HTTP_ROUTE_REQUEST_DURATION = Registry Kind::Seconds(ROUTE_SECONDS), "outbound_http_route_request_duration_seconds", "Time from a request's head to its response's end";
    OUTBOUND_HTTP_ROUTE_REQUEST_STATUSES = Registry Kind::Counter, "outbound_http_route_request_statuses", "Responses to requests by route";
    OUTBOUND_GRPC_ROUTE_REQUEST_DURATION = Registry Kind::Seconds(ROUTE_SECONDS), "outbound_grpc_route_request_duration_seconds", "Time from a request's head to its response's end";
    OUTBOUND_GRPC_ROUTE_REQUEST_STATUSES = Registry Kind::Counter, "outbound_grpc_route_request_statuses", "Responses to requests by route";
    OUTBOUND_HTTP_ROUTE_BACKEND_REQUESTS = Registry Kind::Counter, "outbound_http_route_backend_requests", "Requests sent to a backend";
    OUTBOUND_HTTP_ROUTE_BACKEND_RESPONSE_DURATION = Registry Kind::Seconds(BACKEND_SECONDS), "outbound_http_route_backend_response_duration_seconds", "Time from a request sent to its response's end";
    OUTBOUND_HTTP_ROUTE_BACKEND_RESPONSE_STATUSES = Registry Kind::Counter, "outbound_http_route_backend_response_statuses", "Responses of a backend";
    OUTBOUND_GRPC_ROUTE_BACKEND_REQUESTS = Registry Kind::Counter, "outbound_grpc_route_backend_requests", "Requests sent to a backend";
    OUTBOUND_GRPC_ROUTE_BACKEND_RESPONSE_DURATION = Registry Kind::Seconds(BACKEND_SECONDS), "outbound_grpc_route_backend_response_duration_seconds", "Time from a request sent to its response's end";
    OUTBOUND_GRPC_ROUTE_BACKEND_RESPONSE_STATUSES = Registry Kind::Counter, "outbound_grpc_route_backend_response_statuses", "Responses of a backend";
    OUTBOUND_HTTP_ROUTE_RETRY_REQUESTS = Registry Kind::Counter, "outbound_http_route_retry_requests", "Retries sent";
    OUTBOUND_HTTP_ROUTE_RETRY_SUCCESSES = Registry Kind::Counter, "outbound_http_route_retry_successes", "Retries that succeeded";
    OUTBOUND_HTTP_ROUTE_RETRY_LIMIT_EXCEEDED = Registry Kind::Counter, "outbound_http_route_retry_limit_exceeded", "Retries not sent because the limit or the budget was reached";
    OUTBOUND_HTTP_ROUTE_RETRY_OVERFLOW = Registry Kind::Counter, "outbound_http_route_retry_overflow", "Retries not sent because no endpoint was ready";
    OUTBOUND_HTTP_BALANCER_ENDPOINTS = Registry Kind::Gauge, "outbound_http_balancer_endpoints", "Endpoints of a balancer";
    OUTBOUND_TCP_BALANCER_ENDPOINTS = Registry Kind::Gauge, "outbound_tcp_balancer_endpoints", "Endpoints of a balancer";
    OUTBOUND_TCP_ROUTE_OPEN = Registry Kind::Counter, "outbound_tcp_route_open", "Connections that a route took";
    OUTBOUND_TCP_ROUTE_CLOSE = Registry Kind::Counter, "outbound_tcp_route_close", "Connections of a route that ended";
    OUTBOUND_TCP_PROTOCOL_CONNECTIONS = Registry Kind::Counter, "outbound_tcp_protocol_connections", "Connections by protocol";
    CERT_EXPIRATION = Registry Kind::Timestamp, "control_identity_cert_expiration_timestamp_seconds", "Expiry of the leaf";
    CERT_REFRESH = Registry Kind::Timestamp, "control_identity_cert_refresh_timestamp_seconds", "Time that the leaf was issued";
    CERT_REFRESHES = Registry Kind::Counter, "control_identity_cert_refreshes", "Attempts to get a leaf";
    LIMIT_REFUSED = Registry Kind::Counter, "mesh_limit_refused", "Refusals by limits of the proxy";
    SERIES_EVICTED = Registry Kind::Counter, "mesh_metrics_series_evicted", "Idle series of metrics that were dropped";
    NEVER_ARRIVED = Registry Kind::Counter, "mesh_never_arrived_resent", "Requests that never reached the application and went to another endpoint";
    MIRRORED = Registry Kind::Counter, "mesh_mirrored_requests", "Requests that a mirror was to get a copy of, by outcome";
    BREAKER_EJECTED = Registry Kind::Gauge, "mesh_breaker_ejected", "1 while failure accrual keeps an endpoint ejected or on probation";
    BREAKER_EJECTIONS = Registry Kind::Counter, "mesh_breaker_ejections", "Times that failure accrual ejected an endpoint";
    PANICS = Registry Kind::Counter, "mesh_connection_panics", "Connections that a panic ended";
    DISCOVERY_AGE = Registry Kind::Age, "mesh_discovery_age_seconds", "Time since the control plane last confirmed an answer";
    DISCOVERY_CONNECTED = Registry Kind::Gauge, "mesh_discovery_connected", "1 while the answer's stream is up";
    DISCOVERY_RECONNECTS = Registry Kind::Counter, "mesh_discovery_reconnects", "Streams of discovery that were established again";
}

/// `process_start_time_seconds`, printed with the other figures of the process.
pub const PROCESS_START_TIME: &str = "process_start_time_seconds";

/// Names of labels.
pub mod label {
    /// `inbound` or `outbound`.
    pub const DIRECTION: &str = "direction";
    /// `src` or `dst`.
    pub const PEER: &str = "peer";
    /// Authority of a request.
    pub const AUTHORITY: &str = "authority";
    /// Address of the target.
    pub const TARGET_ADDR: &str = "target_addr";
    /// IP of the target.
    pub const TARGET_IP: &str = "target_ip";
    /// Port of the target.
    pub const TARGET_PORT: &str = "target_port";
    /// `true`, `no_identity`, `opaque`, `disabled`.
    pub const TLS: &str = "tls";
    /// Identity of the client.
    pub const CLIENT_ID: &str = "client_id";
    /// Identity of the server.
    pub const SERVER_ID: &str = "server_id";
    /// Reason for a connection without TLS.
    pub const NO_TLS_REASON: &str = "no_tls_reason";
    /// HTTP status.
    pub const STATUS_CODE: &str = "status_code";
    /// `success` or `failure`.
    pub const CLASSIFICATION: &str = "classification";
    /// gRPC status.
    pub const GRPC_STATUS: &str = "grpc_status";
    /// Error of the proxy's own.
    pub const ERROR: &str = "error";
    /// Outcome of a copy of a mirrored request.
    pub const OUTCOME: &str = "outcome";
    /// Upper bound of a bucket.
    pub const LE: &str = "le";
    /// Target of a profile route.
    pub const DST: &str = "dst";
    /// Prefix of the labels of a profile route.
    pub const ROUTE_PREFIX: &str = "rt_";
    /// Prefix of the labels of an endpoint.
    pub const DST_PREFIX: &str = "dst_";
    /// Group of the Server.
    pub const SRV_GROUP: &str = "srv_group";
    /// Kind of the Server.
    pub const SRV_KIND: &str = "srv_kind";
    /// Name of the Server.
    pub const SRV_NAME: &str = "srv_name";
    /// Port of the Server.
    pub const SRV_PORT: &str = "srv_port";
    /// Kind of the authorization.
    pub const AUTHZ_KIND: &str = "authz_kind";
    /// Name of the authorization.
    pub const AUTHZ_NAME: &str = "authz_name";
    /// Kind of the route.
    pub const ROUTE_KIND: &str = "route_kind";
    /// Name of the route.
    pub const ROUTE_NAME: &str = "route_name";
}

/// Values of the label [`label::CLASSIFICATION`].
pub mod classification {
    /// The response is a success.
    pub const SUCCESS: &str = "success";
    /// The response is a failure.
    pub const FAILURE: &str = "failure";
}

/// Values of the label [`label::ERROR`] in the families of the proxy's own errors; upstream's words, from [`Reason`].
pub mod error {
    use proxy_model::Reason;

    const fn label(reason: Reason) -> &'static str {
        reason.row().label.expect("a reason that is counted")
    }

    /// Shed because too many requests wait.
    pub const LOAD_SHED: &str = label(Reason::LoadShed);
    /// No endpoint was ready in time.
    pub const FAIL_FAST: &str = label(Reason::FailFast);
    /// No ClientHello arrived in time.
    pub const TLS_DETECT_TIMEOUT: &str = label(Reason::TlsDetectTimeout);
    /// The gateway does not serve this name.
    pub const GATEWAY_DOMAIN_INVALID: &str = label(Reason::GatewayUnsupported);
    /// Reading or writing failed.
    pub const IO: &str = label(Reason::ClientIo);
    /// All other errors.
    pub const UNEXPECTED: &str = label(Reason::Unexpected);
    /// The endpoint's identity is not the required one.
    pub const IDENTITY_REQUIRED: &str = label(Reason::IdentityRequired);
    /// The response took too long.
    pub const RESPONSE_TIMEOUT: &str = label(Reason::RequestTimeout);
    /// The client went away first; ours, upstream counts nothing then.
    pub const CANCELLED: &str = label(Reason::ClientCancelled);
}
