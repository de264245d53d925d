//! Names of the headers that mean something between proxies, made once.

use http::{HeaderName, HeaderValue};

/// Identity of the TLS client, for the application. Overwritten by inbound.
pub const L5D_CLIENT_ID: HeaderName = HeaderName::from_static("l5d-client-id");
/// Marks HTTP/1 that rides in HTTP/2.
pub const L5D_ORIG_PROTO: HeaderName = HeaderName::from_static("l5d-orig-proto");
/// Why the proxy answered instead of the application.
pub const L5D_PROXY_ERROR: HeaderName = HeaderName::from_static("l5d-proxy-error");
/// `close` when the peer should close the connection.
pub const L5D_PROXY_CONNECTION: HeaderName = HeaderName::from_static("l5d-proxy-connection");
/// Name that outbound routed a request by, when a ServiceProfile did.
pub const L5D_DST_CANONICAL: HeaderName = HeaderName::from_static("l5d-dst-canonical");
/// Identity that the client of outbound insists on.
pub const L5D_REQUIRE_ID: HeaderName = HeaderName::from_static("l5d-require-id");
/// Ours: the inbound proxy says that a request provably did not reach the application, so that the outbound proxy may
/// send it elsewhere. Only sent to clients with an identity; outbound strips it, inbound strips it from what the
/// application says.
pub const MESH_NEVER_ARRIVED: HeaderName = HeaderName::from_static("mesh-never-arrived");
/// Not standardised, but seen: a `connection` for proxies.
pub const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// Hop-by-hop.
pub const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// gRPC's status.
pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// gRPC's text.
pub const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The value of [`MESH_NEVER_ARRIVED`].
pub const TRUE: HeaderValue = HeaderValue::from_static("true");
/// `close`.
pub const CLOSE: HeaderValue = HeaderValue::from_static("close");
/// gRPC's content type.
pub const APPLICATION_GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
