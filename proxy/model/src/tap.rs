//! Tap: conditions on requests to observe, and the events of each.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderMap, Method};
use ipnet::IpNet;

use crate::endpoint::Labels;

/// Condition on requests to observe.
#[derive(Clone, Debug, PartialEq)]
pub enum TapMatch {
    /// All conditions hold.
    All(Vec<TapMatch>),
    /// At least one condition holds.
    Any(Vec<TapMatch>),
    /// The condition does not hold.
    Not(Box<TapMatch>),
    /// The client's address.
    Source(TcpMatch),
    /// The server's address.
    Destination(TcpMatch),
    /// A label of the destination.
    DestinationLabel(String, String),
    /// A label of the route.
    RouteLabel(String, String),
    /// The scheme.
    Scheme(String),
    /// The method.
    Method(Method),
    /// The authority.
    Authority(TextMatch),
    /// The path.
    Path(TextMatch),
}

/// Condition on an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TcpMatch {
    /// Network.
    Net(IpNet),
    /// Ports, inclusive.
    Ports(u16, u16),
}

/// Condition on a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextMatch {
    /// Exactly this.
    Exact(String),
    /// Begins with this.
    Prefix(String),
}

/// One request as tap matches it, and as its event begins.
#[derive(Clone, Debug)]
pub struct TapRequest {
    /// Side of the proxy that saw the request.
    pub direction: Direction,
    /// Client's address.
    pub source: SocketAddr,
    /// Labels of the client (`tls`, `client_id`, …).
    pub source_labels: Labels,
    /// Server's address.
    pub destination: SocketAddr,
    /// Labels of the server.
    pub destination_labels: Labels,
    /// Labels of the route.
    pub route_labels: Labels,
    /// Method.
    pub method: Method,
    /// Scheme; empty if unknown.
    pub scheme: String,
    /// Authority; empty if none.
    pub authority: String,
    /// Path with query.
    pub path: String,
}

/// Side of the proxy.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Toward the application.
    Inbound,
    /// From the application.
    Outbound,
}

/// Event of a request.
#[derive(Clone, Debug)]
pub struct TapEvent {
    /// The request.
    pub request: Arc<TapRequest>,
    /// Number of the request within its observation, from 0.
    pub stream: u64,
    /// Kind, with particulars.
    pub kind: TapEventKind,
}

/// Kind of an event. Headers are included only if the observation asked for them.
#[derive(Clone, Debug)]
pub enum TapEventKind {
    /// The request's head arrived.
    RequestInit {
        /// Headers.
        headers: Option<HeaderMap>,
    },
    /// The response's head arrived.
    ResponseInit {
        /// Time since the request's head.
        since_request: Duration,
        /// Status.
        status: u16,
        /// Headers.
        headers: Option<HeaderMap>,
    },
    /// The response ended.
    ResponseEnd {
        /// Time since the request's head.
        since_request: Duration,
        /// Time since the response's head.
        since_response: Duration,
        /// Bytes of the response's body.
        response_bytes: u64,
        /// End of the stream.
        end: StreamEnd,
        /// Trailers.
        trailers: Option<HeaderMap>,
    },
}

/// End of a stream.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// Complete, without a gRPC status.
    Complete,
    /// Complete, with this gRPC status.
    Grpc(u32),
    /// Reset, with this HTTP/2 code.
    Reset(u32),
}
