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
    /// Bytes of a request: many times a token and a name.
    REQUEST_BYTES: u32 = 64 * 1024;
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
