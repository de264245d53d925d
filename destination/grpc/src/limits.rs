//! Limits of the server, each with its reason.

use std::time::Duration;

use proxy_process::serve::{Limits, limits as server};

proxy_model::limits! {
    /// Connections of one listener: a thousand nodes with a few each, all through the sidecar of this pod.
    DESTINATION_CONNECTIONS: usize = 10_000;
    /// Streams of one connection. A sidecar multiplexes the streams of many proxies over one connection.
    DESTINATION_STREAMS: u32 = 100_000;
    /// Bytes of a request's headers: a path and a few names.
    DESTINATION_HEADER_BYTES: u32 = 16 * 1024;
    /// Endpoints of one message: about 300 bytes each, and a client accepts 4 MiB.
    ENDPOINTS_PER_MESSAGE: usize = 1_000;
    /// Streams of all clients: five thousand proxies with twenty lookups each, at some 10 KiB a stream.
    DESTINATION_STREAMS_IN_ALL: usize = 100_000;
    /// Streams of one client identity, so that no workload takes all: a thousand replicas with 25 lookups each.
    DESTINATION_STREAMS_PER_IDENTITY: usize = DESTINATION_STREAMS_IN_ALL.value / 4;
    /// Streams of clients without an identity, all together: the sidecar of this pod, and diagnostics by a forwarded
    /// port.
    DESTINATION_STREAMS_WITHOUT_IDENTITY: usize = 100;
    /// Requests of one client that are being read. A request comes whole, so that few are at any time.
    DESTINATION_READS_PER_CLIENT: usize = 256;
    /// Time for a request to come in; it fits into a packet or two.
    DESTINATION_REQUEST_TIME: Duration = Duration::from_secs(5);
    /// Bytes of a request: many times a token and a name.
    REQUEST_BYTES: u32 = 16 * 1024;
    /// Encoded messages of one kind that are kept for reuse; all are dropped when exceeded.
    SHARED_MESSAGES: usize = 4_096;
    /// Time for which an unused message is kept: after an outage, streams come back within seconds.
    SHARED_FOR: Duration = Duration::from_secs(5);
}

/// Limits of connections. Nothing probes these ports, and all clients share the address of the sidecar.
pub(crate) fn connections() -> Limits {
    Limits {
        connections: DESTINATION_CONNECTIONS,
        per_client: DESTINATION_CONNECTIONS,
        probes: None,
        // A proxy connects before it has a question, and its questions are streams.
        first_call: None,
        idle: None,
        call: None,
        streams: DESTINATION_STREAMS,
        header_list_bytes: DESTINATION_HEADER_BYTES,
        stream_window: REQUEST_BYTES,
        drain: server::SERVER_DRAIN,
        ..Limits::default()
    }
}
