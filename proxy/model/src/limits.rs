//! Every limit of the data plane, each with its reason. What a limit refuses is counted (`mesh_limit_refused_total`).

use std::time::Duration;

/// Bytes looked at to tell HTTP/1 from HTTP/2 from anything else; upstream's figure.
pub const DETECT_HTTP_BYTES: usize = 1024;
/// Bytes of a ClientHello that may be read to find its SNI; upstream's figure (a hybrid key share makes one 1.5 KiB).
pub const DETECT_TLS_BYTES: usize = 8192;
/// Bytes of a transport header; upstream's figure.
pub const TRANSPORT_HEADER_BYTES: usize = 64 * 1024;
/// Decoded header list of an HTTP/2 message; upstream's figure.
pub const HEADER_LIST_BYTES: u32 = 16 * 1024;
/// Bytes of a request body kept for sending it again; upstream's figure.
pub const REPLAY_BYTES: usize = 64 * 1024;
/// Attempts for a request that provably never arrived; each goes to another endpoint if there is one.
pub const NEVER_ARRIVED_ATTEMPTS: u32 = 4;
/// Outbound lookups kept at a time; the least recently used idle one goes first.
pub const DISCOVERY_TARGETS: usize = 4096;
/// Endpoints of one service that a proxy balances over; more are left out and counted.
pub const ENDPOINTS_PER_SERVICE: usize = 10_000;
/// Series of metrics in a process; further label sets count into one series marked `overflow`.
pub const METRIC_SERIES: usize = 20_000;
/// Idle HTTP/1 connections kept to one endpoint.
pub const IDLE_HTTP1_PER_ENDPOINT: usize = 256;
/// Connections accepted and alive at a time, in one direction; upstream limits requests in flight to the same figure.
pub const CONNECTIONS: usize = 100_000;
/// Requests that wait for an endpoint of one backend; upstream's figure.
pub const WAITING_REQUESTS: usize = 10_000;
/// Events that wait for one tap observer; more are dropped and counted; upstream's figure.
pub const TAP_EVENTS: usize = 400;
/// Tap observers at a time.
pub const TAP_OBSERVERS: usize = 64;
/// Compiled size of one regular expression, in bytes.
pub const REGEX_BYTES: usize = 1 << 20;
/// Streams that one client may have open on one HTTP/2 connection.
pub const HTTP2_STREAMS: u32 = 4096;
/// Stream window of HTTP/2, in bytes; upstream's figure on the wire.
pub const HTTP2_STREAM_WINDOW: u32 = 65_535;
/// Connection window of HTTP/2, in bytes; upstream's figure on the wire.
pub const HTTP2_CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Buffer of one direction of an opaque connection, in bytes: one TLS record.
pub const COPY_BYTES: usize = 16 * 1024;
/// Free buffers of that size that a worker keeps for slow writers; more are given back to the allocator.
pub const COPY_POOL: usize = 64;
/// Connections that may wait to be accepted; what the system allows by default.
pub const LISTEN_BACKLOG: i32 = 4096;
/// Bytes read from an HTTP/1 connection at a time, which its buffer keeps room for: eight frames of HTTP/2, each of which fills a TLS
/// record. A MiB costs the inbound side a quarter more with half of it, and no less with twice as much.
pub const HTTP1_READ_BYTES: u64 = 8 * (16_384 - 9);
/// Bytes read from a TLS connection at a time: four records, so that a large body costs a system call for 64 KiB of it.
pub const TLS_READ_BYTES: usize = 64 * 1024;
/// Plaintext sealed at a time, for one write; a connection whose peer does not read keeps no more than this.
pub const TLS_WRITE_BYTES: usize = 64 * 1024;
/// Free buffers of each of these kinds that a thread keeps; more are given back to the allocator.
pub const TLS_BUFFERS: usize = 4;
/// Bytes of a handshake that wait for the rest of a message: rustls takes none that is longer.
pub const TLS_HANDSHAKE_BYTES: usize = 64 * 1024;
/// Time for a TLS handshake; a peer that takes longer is not one.
pub const TLS_HANDSHAKE: Duration = Duration::from_secs(5);
/// Bytes of the file in which the control plane's answers outlive the process: it lies in the pod's memory. More are left out.
pub const MEMORY_BYTES: usize = 2 * 1024 * 1024;
/// Largest message taken from the control plane: 10,000 endpoints of 1 KiB and room; gRPC's usual 4 MiB would cut a large service off.
pub const CONTROL_MESSAGE_BYTES: usize = 32 * 1024 * 1024;
