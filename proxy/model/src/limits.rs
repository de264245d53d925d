//! Limits of the data plane, each with its reason. A refusal is counted by the [`Limit`] that caused it
//! (`mesh_limit_refused_total`), so that no limit can be misspelt or left out of [`ALL`].

use std::{fmt, time::Duration};

/// A named bound. Made by [`limits!`](crate::limits!) alone, so that each stands in a table.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Limit<T = usize> {
    /// Name of the constant, and of the label `limit` in metrics.
    pub name: &'static str,
    /// The bound itself.
    pub value: T,
    /// Quantity that is bounded, and the reason for the figure.
    pub reason: &'static str,
}

/// Value of a limit of any type.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A count or a number of bytes.
    Count(u64),
    /// A time.
    Time(Duration),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Time(time) => write!(f, "{time:?}"),
        }
    }
}

macro_rules! rows {
    ($($type:ty)+) => {
        $(impl Limit<$type> {
            /// The limit as a row of a table of limits of several types.
            pub const fn row(self) -> Limit<Value> {
                let Self { name, value, reason } = self;
                let value = Value::Count(value as u64);
                Limit { name, value, reason }
            }
        })+
    };
}

rows!(usize u32 u64 u16);

impl Limit<Duration> {
    /// The limit as a row of a table of limits of several types.
    pub const fn row(self) -> Limit<Value> {
        let Self { name, value, reason } = self;
        let value = Value::Time(value);
        Limit { name, value, reason }
    }
}

/// Declares limits of a component and a table `ALL` of them; the doc comment of each is its reason.
#[macro_export]
macro_rules! limits {
    ($($(#[doc = $reason:literal])+ $name:ident: $type:ty = $value:expr;)+) => {
        $($(#[doc = $reason])+
        pub const $name: $crate::limits::Limit<$type> = $crate::limits::Limit {
            name: stringify!($name),
            value: $value,
            reason: concat!($($reason),+).trim_ascii(),
        };)+

        /// All limits of this module, in the order of their declaration.
        pub const ALL: &[$crate::limits::Limit<$crate::limits::Value>] = &[$($name.row()),+];
    };
}

crate::limits! {
    /// Bytes read to detect HTTP/1 or HTTP/2; upstream's figure.
    DETECT_HTTP_BYTES: usize = 1024;
    /// Bytes of a ClientHello read to find its SNI; upstream's figure (a hybrid key share makes one 1.5 KiB).
    DETECT_TLS_BYTES: usize = 8192;
    /// Bytes of a transport header; upstream's figure.
    TRANSPORT_HEADER_BYTES: usize = 64 * 1024;
    /// Bytes of the decoded header list of an HTTP/2 message; upstream's figure.
    HEADER_LIST_BYTES: u32 = 16 * 1024;
    /// Bytes of a request body kept for a retry; upstream's figure.
    REPLAY_BYTES: usize = 64 * 1024;
    /// Attempts for a request that provably never arrived; each goes to another endpoint if there is one.
    NEVER_ARRIVED_ATTEMPTS: u32 = 4;
    /// Outbound lookups kept at a time; the least recently used idle one is evicted first.
    DISCOVERY_TARGETS: usize = 4096;
    /// Endpoints of one service that a proxy balances over; further ones are left out and counted.
    ENDPOINTS_PER_SERVICE: usize = 10_000;
    /// Series of metrics in a process; further label sets count into one series marked `overflow`.
    METRIC_SERIES: usize = 20_000;
    /// Bytes of the text of all series, of which mesh-viz reads 16 MiB; further label sets count into `overflow`, too.
    METRIC_BYTES: usize = 15 << 20;
    /// Bytes of a label's value, as long as a name in DNS; the rest is cut.
    LABEL_BYTES: usize = 253;
    /// Series of metrics that are printed or dropped under one lock, while which no worker adds one.
    METRIC_SERIES_AT_ONCE: usize = 64;
    /// Idle HTTP/1 connections kept to one endpoint.
    IDLE_HTTP1_PER_ENDPOINT: usize = 256;
    /// Connections open at a time in one direction; upstream limits requests in flight to the same figure.
    CONNECTIONS: usize = 100_000;
    /// Accepted connections waiting for the worker that they are handed to.
    HANDED_OVER: usize = 1024;
    /// Requests waiting for an endpoint of one backend; upstream's figure.
    WAITING_REQUESTS: usize = 10_000;
    /// Copies of mirrored requests that a worker sends at a time; further requests are not copied. With 256 copies a
    /// second, a mirror may take a second for each.
    MIRRORED_REQUESTS: usize = 256;
    /// Bytes of bodies that the copies of a worker hold; further requests are not copied.
    MIRRORED_BYTES: usize = 4 << 20;
    /// Time that a copy may take, for which no client waits.
    MIRRORED_TIME: Duration = Duration::from_secs(10);
    /// Retry budgets kept at a time, as many as lookups; unused ones are forgotten first.
    RETRY_BUDGETS: usize = DISCOVERY_TARGETS.value;
    /// Applications whose connections are pooled; unused ones are forgotten first. A pod has a few ports.
    APPLICATIONS: usize = 1024;
    /// Denied requests and connections that a worker logs in a second; the next line reports how many were left out.
    DENIALS_LOGGED: u32 = 10;
    /// Ejections and readmissions of endpoints by failure accrual that a process logs in a second; the next line
    /// reports how many were left out.
    BREAKERS_LOGGED: u32 = 10;
    /// Clients that are counted one by one at a rate-limited port; when there are more, quiet ones are forgotten, and
    /// without any of those, further clients share a count. An identity is dear, so this is far beyond what is seen.
    RATE_LIMITED_CLIENTS: usize = 16_384;
    /// Ports whose policy is watched from the start: the injector lists a container's ports, so more is a mistake.
    EAGER_PORTS: usize = 256;
    /// Ports beyond those whose policies are looked up at a time, because a client connected to them: each lookup takes
    /// some 10 KiB, and a port scan asks for all. The least recently used idle one is evicted first.
    UNDECLARED_PORTS: usize = 64;
    /// Time that a connection waits for the policy of its port, before it is refused: an answer takes milliseconds, and
    /// a control plane that restarts some seconds.
    POLICY_WAIT: Duration = Duration::from_secs(3);
    /// Connections of one worker that wait for a policy; further ones are refused at once.
    UNDECIDED_CONNECTIONS: usize = 256;
    /// Time that an encrypted connection to a port with an HTTP policy may be silent before its first request.
    HTTP_SILENCE: Duration = Duration::from_secs(300);
    /// Bytes of a path that an application may read in several ways; a longer one is refused, because each reading is
    /// matched.
    AMBIGUOUS_PATH_BYTES: usize = 2048;
    /// Events that wait for one tap observer; further ones are dropped and counted; upstream's figure.
    TAP_EVENTS: usize = 400;
    /// Tap observers at a time, each on a connection.
    TAP_OBSERVERS: usize = 64;
    /// Tap connections of one client address: mesh-viz has one for each tap of a pod.
    TAP_OBSERVERS_PER_CLIENT: usize = 32;
    /// Bytes of the stream window of tap; upstream's figure.
    TAP_STREAM_WINDOW: u32 = 1024 * 1024;
    /// Streams of one tap connection; upstream's figure.
    TAP_STREAMS: u32 = 200;
    /// Tapped requests of one observation whose events are put together.
    TAP_REQUESTS: usize = 10_000;
    /// Nesting of a tap's or a profile's match expression.
    MATCH_DEPTH: usize = 32;
    /// Bytes of one compiled regular expression.
    REGEX_BYTES: usize = 1 << 20;
    /// Bytes of the text of one regular expression; the Gateway API's figure for the value of a header.
    PATTERN_TEXT_BYTES: usize = 4096;
    /// Routes of a ServiceProfile, or rules of a route: a large OpenAPI document; the Gateway API allows 16 rules.
    OBJECT_ROUTES: usize = 256;
    /// Conditions of one object's routes: four for each; the Gateway API allows 128.
    OBJECT_MATCHES: usize = 1024;
    /// Items in the other lists of one object's routes: hosts, headers, filters, backends; sixteen for each route.
    OBJECT_PARTS: usize = 4096;
    /// Parents of one route; the Gateway API's figure.
    OBJECT_PARENTS: usize = 32;
    /// Routes of one parent, a Service for example; the oldest apply.
    PARENT_ROUTES: usize = 512;
    /// Regular expressions of one object: one for each route.
    OBJECT_PATTERNS: usize = 256;
    /// Bytes of the compiled regular expressions of one object, counted before compiling: all its routes with two
    /// parameters (`[^/]*`) each, or twenty times `\w`. A proxy compiles as much in some 10 ms.
    OBJECT_PATTERN_BYTES: usize = 1 << 20;
    /// Targets by which splits replace the backends of one rule: eight for each of the 16 that the Gateway API allows.
    /// A split beyond that has no effect there, which the control plane reports.
    RULE_TARGETS: usize = 128;
    /// Routes of one policy; HTTP routes are sent twice, for either version.
    POLICY_ROUTES: usize = 4096;
    /// Bytes of the compiled regular expressions of one policy: eight routes at their limit, each sent twice.
    POLICY_PATTERN_BYTES: usize = 16 * OBJECT_PATTERN_BYTES.value;
    /// Time from the first byte of an HTTP/1 request's head to its last; upstream has none, ztunnel 2 s.
    HTTP1_HEAD: Duration = Duration::from_secs(10);
    /// Bytes of the head of an HTTP/1 message, and of its trailers; hyper's 400 KiB would be held per connection.
    HTTP1_HEAD_BYTES: usize = 64 * 1024;
    /// Bytes that wait in an HTTP/1 connection for its socket, beyond which no body is read: sixteen frames of HTTP/2,
    /// as many pieces as hyper writes at once; its own figure is 400 KiB.
    HTTP1_BUFFER_BYTES: usize = 256 * 1024;
    /// Headers of an HTTP/1 message; hyper's figure, and with more each message would cost two allocations.
    HTTP1_HEADERS: usize = 100;
    /// Time until the first byte of the first request of an HTTP/1 connection.
    HTTP_FIRST_REQUEST: Duration = Duration::from_secs(60);
    /// Time without a request after which a client's connection is closed, at the latest after twice as long; pools of
    /// clients give up far earlier.
    HTTP_IDLE: Duration = Duration::from_secs(300);
    /// Time for the preface and the first SETTINGS of HTTP/2.
    HTTP2_PREFACE: Duration = Duration::from_secs(10);
    /// Time for a client to close an HTTP/2 connection after GOAWAY.
    HTTP2_GOAWAY: Duration = Duration::from_secs(10);
    /// Streams that a client without an identity may have open on one HTTP/2 connection; upstream has no limit, hyper
    /// recommends 200. With 16 KiB of headers each this bounds the headers of a connection to 4 MiB.
    HTTP2_STREAMS: u32 = 256;
    /// Streams that a meshed client, or the proxy's own application, may have open on one HTTP/2 connection: a proxy
    /// sends all requests to an endpoint over one connection per worker.
    HTTP2_MESHED_STREAMS: u32 = 1024;
    /// Streams that a client without an identity may reset unanswered within the window, beyond those answered.
    HTTP2_RESETS: u32 = 200;
    /// Streams that a meshed client may reset unanswered within the window, beyond those answered: it carries the
    /// cancellations of many clients.
    HTTP2_MESHED_RESETS: u32 = 4096;
    /// Window in which resets are counted.
    HTTP2_RESET_WINDOW: Duration = Duration::from_secs(30);
    /// Bytes of frames other than DATA that an HTTP/2 client may send within the window without work that explains
    /// them: 15,000 PINGs. A request explains 32 KiB, a piece of a response its length and 256 bytes.
    HTTP2_IDLE_BYTES: u32 = 256 * 1024;
    /// Window in which those bytes are counted: half of them in a slower pace are never refused, as gRPC keeps streams
    /// without messages alive by PINGs for days.
    HTTP2_IDLE_WINDOW: Duration = Duration::from_secs(30);
    /// Bytes of frames other than DATA read from an HTTP/2 client before the worker's other connections have their
    /// turn: a thousand PINGs.
    HTTP2_TURN_BYTES: u64 = 16 * 1024;
    /// Time that a request waits for the server to allow a further stream; upstream's fail-fast is 3 s.
    HTTP2_STREAM_WAIT: Duration = Duration::from_secs(10);
    /// Bytes of bodies that wait in one HTTP/2 connection for windows and socket, beyond which no body is read.
    HTTP2_WAITING_BYTES: usize = 2 * 1024 * 1024;
    /// Bytes of request heads and bodies that wait in the HTTP connections of a process; beyond it, the connection that
    /// holds most is closed. At most a quarter of the container's memory. From a third of it on, HTTP/1 connections
    /// hold one short read each, so that hundreds of clients that do not read stay within it; as much again is left for
    /// the large read buffers of HTTP/1 connections, and those without one read short pieces.
    BUFFERED_BYTES: usize = 18 * 1024 * 1024;
    /// Connections to one application by HTTP/1 that a worker has open at a time: half of the local ports.
    APPLICATION_CONNECTIONS: usize = 14_000;
    /// Streams opened on an HTTP/2 connection before the server has said how many it takes; hyper's figure.
    HTTP2_FIRST_STREAMS: usize = 100;
    /// Bytes of the stream window of HTTP/2; upstream's figure on the wire.
    HTTP2_STREAM_WINDOW: u32 = 65_535;
    /// Bytes of the connection window of HTTP/2; upstream's figure on the wire.
    HTTP2_CONNECTION_WINDOW: u32 = 1024 * 1024;
    /// Bytes that one stream of a client's HTTP/2 connection takes before it has sent them; hyper's figure.
    HTTP2_SERVER_SEND_BUFFER: usize = 400 * 1024;
    /// Bytes that one stream of an HTTP/2 connection to a server takes before it has sent them; hyper's figure.
    HTTP2_CLIENT_SEND_BUFFER: usize = 1024 * 1024;
    /// Streams of an HTTP/2 connection reset for what the peer sent, before it is closed; hyper's figure.
    HTTP2_ERROR_RESETS: usize = 1024;
    /// Bytes of one direction's buffer of an opaque connection: one TLS record.
    COPY_BYTES: usize = 16 * 1024;
    /// Free copy buffers that a worker keeps for slow writers; further ones are returned to the allocator.
    COPY_POOL: usize = 64;
    /// Connections waiting to be accepted; the system's default.
    LISTEN_BACKLOG: u16 = 4096;
    /// Bytes read from an HTTP/1 connection at a time, for which its buffer keeps room: eight frames of HTTP/2, each of
    /// which fills a TLS record. A MiB costs the inbound side a quarter more with half of it, and no less with twice as
    /// much.
    HTTP1_READ_BYTES: u64 = 8 * (16_384 - 9);
    /// Bytes read from an HTTP/1 connection at a time while a third of `BUFFERED_BYTES` is held, or another third by
    /// the buffers of others: one frame of HTTP/2.
    HTTP1_SHORT_READ_BYTES: u64 = 16_384 - 9;
    /// Bytes read from a TLS connection at a time: four records, so that a large body costs one system call per 64 KiB.
    TLS_READ_BYTES: usize = 64 * 1024;
    /// Bytes of plaintext sealed for one write; a connection whose peer does not read keeps no more than this.
    TLS_WRITE_BYTES: usize = 64 * 1024;
    /// Free TLS buffers of each kind that a thread keeps; further ones are returned to the allocator.
    TLS_BUFFERS: usize = 4;
    /// Bytes of an incomplete handshake message: rustls takes none that is longer.
    TLS_HANDSHAKE_BYTES: usize = 64 * 1024;
    /// Time for a TLS handshake.
    TLS_HANDSHAKE: Duration = Duration::from_secs(5);
    /// Bytes of the file in which the control plane's answers outlive the process: it lies in the pod's memory.
    MEMORY_BYTES: usize = 2 * 1024 * 1024;
    /// Bytes of a message from the control plane: 10,000 endpoints of 1 KiB and room; gRPC's usual 4 MiB would cut off
    /// a large service.
    CONTROL_MESSAGE_BYTES: usize = 32 * 1024 * 1024;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_fit_for_labels() {
        let names: BTreeSet<_> = ALL.iter().map(|limit| limit.name).collect();
        assert_eq!(names.len(), ALL.len());
        let fits = |name: &str| {
            name.bytes()
                .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        };
        assert!(names.into_iter().all(fits));
    }

    #[test]
    fn every_limit_has_a_reason_in_one_sentence_or_more() {
        for limit in ALL {
            let reason = limit.reason;
            assert!(
                reason.len() > 10 && reason.ends_with('.') && reason.trim() == reason,
                "{limit:?}"
            );
        }
    }

    #[test]
    fn values_are_shown_in_the_unit_of_their_reason() {
        assert_eq!(CONNECTIONS.row().value.to_string(), "100000");
        assert_eq!(TLS_HANDSHAKE.row().value.to_string(), "5s");
    }
}
