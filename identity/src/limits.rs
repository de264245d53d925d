//! Limits of the Identity API, each with its reason.

use std::time::Duration;

use proxy_process::serve::{Limits, Protocol, Server};

proxy_model::limits! {
    /// Connections open at a time, of any number of clients: behind the sidecar all have the same address.
    IDENTITY_CONNECTIONS: usize = 1_024;
    /// Streams of one connection. The sidecar multiplexes the calls of many proxies over one connection.
    IDENTITY_STREAMS: u32 = 1_024;
    /// Time for one call, so that a stuck client does not hold resources; the API server answers in milliseconds.
    IDENTITY_CALL: Duration = Duration::from_secs(10);
    /// Bytes of a request: a token and a signing request, both with smaller limits of their own.
    IDENTITY_REQUEST_BYTES: u32 = 64 * 1024;
    /// Tokens of one client that the API server may review one after the other: a rollout of as many pods, whose
    /// proxies have no identity yet and are one client.
    REVIEWS_IN_A_ROW: u32 = 500;
    /// Time between two further reviews for one client.
    REVIEW_EVERY: Duration = Duration::from_millis(10);
    /// Tokens of all clients that may be reviewed one after the other, so that several clients have theirs.
    REVIEWS_IN_A_ROW_IN_ALL: u32 = 2_000;
    /// Time between two further reviews for all clients; an API server takes more in a second.
    REVIEW_EVERY_IN_ALL: Duration = Duration::from_millis(4);
    /// Clients whose reviews are counted one by one; quiet ones are forgotten first, and when there are more, further
    /// ones share a count.
    REVIEWED_CLIENTS: usize = 4_096;
    /// Tokens that are remembered as invalid; all are forgotten when there are more.
    INVALID_TOKENS: usize = 4_096;
    /// Time for which a token is remembered as invalid: a proxy repeats its request within seconds.
    INVALID_TOKEN_TIME: Duration = Duration::from_secs(30);
}

/// Sets the limits of the server. Nothing probes its port.
pub(crate) fn with_limits(server: Server) -> Server {
    Server {
        protocol: Protocol::Http2,
        limits: Limits {
            connections: IDENTITY_CONNECTIONS,
            per_client: IDENTITY_CONNECTIONS,
            probes: None,
            streams: IDENTITY_STREAMS,
            stream_window: IDENTITY_REQUEST_BYTES,
            call: Some(IDENTITY_CALL),
            ..server.limits
        },
        ..server
    }
}
