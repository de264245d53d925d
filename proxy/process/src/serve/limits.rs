//! Limits of a server, with the defaults that suit an admin port: probes, scrapers, a person.

use std::time::Duration;

use proxy_model::limits::Limit;

proxy_model::limits! {
    /// Connections open at a time; further ones go to the reserve.
    SERVER_CONNECTIONS: usize = 256;
    /// Connections of one client address at a time, so that no client takes all room; further ones go to the reserve.
    SERVER_CONNECTIONS_PER_CLIENT: usize = 64;
    /// Connections in the reserve: each may ask for one probe.
    SERVER_PROBES: usize = 32;
    /// Connections of one client address in the reserve; a kubelet has two probes at a time.
    SERVER_PROBES_PER_CLIENT: usize = 4;
    /// Time of a connection in the reserve; a kubelet's probe has a second by default.
    SERVER_PROBE_TIME: Duration = Duration::from_secs(2);
    /// Time until TLS stands.
    SERVER_HANDSHAKE: Duration = Duration::from_secs(5);
    /// Time until the first bytes tell HTTP/1 from HTTP/2.
    SERVER_FIRST_BYTES: Duration = Duration::from_secs(5);
    /// Time for the head of an HTTP/1 request, and between requests; a scraper that is slower opens another connection.
    SERVER_HEAD: Duration = Duration::from_secs(30);
    /// Bytes of the head of an HTTP/1 request.
    SERVER_HEAD_BYTES: usize = 16 * 1024;
    /// Headers of an HTTP/1 request; hyper's figure.
    SERVER_HEADERS: usize = 100;
    /// Streams of one HTTP/2 connection.
    SERVER_STREAMS: u32 = 16;
    /// Bytes of the decoded header list of an HTTP/2 request.
    SERVER_HEADER_LIST_BYTES: u32 = 16 * 1024;
    /// Bytes of the stream window of HTTP/2: what one request may send ahead.
    SERVER_STREAM_WINDOW: u32 = 64 * 1024;
    /// Time between PINGs of HTTP/2, so that the connection of a client that is gone ends.
    SERVER_PING_INTERVAL: Duration = Duration::from_secs(10);
    /// Time for the answer to a PING.
    SERVER_PING_TIMEOUT: Duration = Duration::from_secs(20);
    /// Time from the preface of HTTP/2 to the first request.
    SERVER_FIRST_CALL: Duration = Duration::from_secs(10);
    /// Time without a request after which a connection gives way to a new one, where there is no room.
    SERVER_GIVE_WAY: Duration = Duration::from_secs(1);
    /// Time that a connection may be without a request.
    SERVER_IDLE: Duration = Duration::from_secs(60);
    /// Time from a request to the end of its response, where no response is a stream.
    SERVER_CALL: Duration = Duration::from_secs(30);
    /// Bytes of a response handed to HTTP/2 at a time: what it keeps of an unread response.
    SERVER_CHUNK_BYTES: usize = 16 * 1024;
    /// Time that bytes wait for a client to read.
    SERVER_WRITE: Duration = Duration::from_secs(20);
    /// Time for requests to end after the stop.
    SERVER_DRAIN: Duration = Duration::from_secs(5);
    /// Texts of `/metrics` that may be made one after the other, for several scrapers and a person.
    METRICS_IN_A_ROW: u32 = 10;
    /// Time between two further texts of `/metrics`; requests in between get the last one.
    METRICS_EVERY: Duration = Duration::from_secs(1);
    /// Bytes of the texts of `/metrics` that readers still hold, beyond which the last one is repeated: two of the
    /// largest.
    METRICS_UNREAD_BYTES: usize = 32 << 20;
    /// Bytes of a request's body that the admin server reads, a log filter for example.
    ADMIN_BODY_BYTES: usize = 4 * 1024;
    /// Pause after a failed accept, for want of file descriptors for example; each failure is counted.
    ACCEPT_PAUSE: Duration = Duration::from_millis(100);
}

/// Limits of one server. Each comes from a table, so that a refusal is counted by its name.
#[derive(Copy, Clone, Debug)]
pub struct Limits {
    /// Connections open at a time.
    pub connections: Limit,
    /// Connections of one client address.
    pub per_client: Limit,
    /// Connections in the reserve for probes; none where nothing probes this port.
    pub probes: Option<Limit>,
    /// Time until TLS stands.
    pub handshake: Limit<Duration>,
    /// Time until the version of HTTP is known.
    pub first_bytes: Limit<Duration>,
    /// Time for the head of an HTTP/1 request.
    pub head: Limit<Duration>,
    /// Bytes of the head of an HTTP/1 request.
    pub head_bytes: Limit,
    /// Headers of an HTTP/1 request.
    pub headers: Limit,
    /// Streams of an HTTP/2 connection.
    pub streams: Limit<u32>,
    /// Bytes of the header list of an HTTP/2 request.
    pub header_list_bytes: Limit<u32>,
    /// Bytes of the stream window of HTTP/2.
    pub stream_window: Limit<u32>,
    /// Time between PINGs of HTTP/2.
    pub ping_interval: Limit<Duration>,
    /// Time for the answer to a PING.
    pub ping_timeout: Limit<Duration>,
    /// Time from the preface of HTTP/2 to the first request; none where clients connect ahead of their requests.
    pub first_call: Option<Limit<Duration>>,
    /// Time without a request; none where clients keep connections.
    pub idle: Option<Limit<Duration>>,
    /// Time from a request to the end of its response; none where responses are streams.
    pub call: Option<Limit<Duration>>,
    /// Time that bytes wait for a client to read.
    pub write: Limit<Duration>,
    /// Time for the drain.
    pub drain: Limit<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: SERVER_CONNECTIONS,
            per_client: SERVER_CONNECTIONS_PER_CLIENT,
            probes: Some(SERVER_PROBES),
            handshake: SERVER_HANDSHAKE,
            first_bytes: SERVER_FIRST_BYTES,
            head: SERVER_HEAD,
            head_bytes: SERVER_HEAD_BYTES,
            headers: SERVER_HEADERS,
            streams: SERVER_STREAMS,
            header_list_bytes: SERVER_HEADER_LIST_BYTES,
            stream_window: SERVER_STREAM_WINDOW,
            ping_interval: SERVER_PING_INTERVAL,
            ping_timeout: SERVER_PING_TIMEOUT,
            first_call: Some(SERVER_FIRST_CALL),
            idle: Some(SERVER_IDLE),
            call: Some(SERVER_CALL),
            write: SERVER_WRITE,
            drain: SERVER_DRAIN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_sentences() {
        for limit in ALL {
            assert!(limit.reason.len() > 10 && limit.reason.ends_with('.'), "{limit:?}");
        }
    }

    #[test]
    fn one_client_leaves_room_for_others() {
        const { assert!(SERVER_CONNECTIONS_PER_CLIENT.value * 2 <= SERVER_CONNECTIONS.value) };
        const { assert!(SERVER_PROBES_PER_CLIENT.value * 2 <= SERVER_PROBES.value) };
    }
}
