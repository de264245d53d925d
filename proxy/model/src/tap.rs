//! Tap: which requests somebody wants to see, and what is told of each.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderMap, Method};
use ipnet::IpNet;

use crate::endpoint::Labels;

/// Which requests to tell of.
#[derive(Clone, Debug, PartialEq)]
pub enum TapMatch {
    /// All hold.
    All(Vec<TapMatch>),
    /// One holds.
    Any(Vec<TapMatch>),
    /// It does not hold.
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

/// Which address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TcpMatch {
    /// Network.
    Net(IpNet),
    /// Ports, inclusive.
    Ports(u16, u16),
}

/// Which text.
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
    /// Which side of the proxy saw it.
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

/// Which side of the proxy.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Toward the application.
    Inbound,
    /// From the application.
    Outbound,
}

/// What is told of a request.
#[derive(Clone, Debug)]
pub struct TapEvent {
    /// The request that it is about.
    pub request: Arc<TapRequest>,
    /// Number of the request within its observation, from 0.
    pub stream: u64,
    /// What happened.
    pub kind: TapEventKind,
}

/// What happened. Headers are there only when the observation asked for them.
#[derive(Clone, Debug)]
pub enum TapEventKind {
    /// The request's head came.
    RequestInit {
        /// Its headers.
        headers: Option<HeaderMap>,
    },
    /// The response's head came.
    ResponseInit {
        /// Time since the request's head.
        since_request: Duration,
        /// Status.
        status: u16,
        /// Its headers.
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
        /// How it ended.
        end: StreamEnd,
        /// Its trailers.
        trailers: Option<HeaderMap>,
    },
}

/// How a stream ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// Complete, no gRPC status.
    Complete,
    /// Complete, with this gRPC status.
    Grpc(u32),
    /// Reset, with this HTTP/2 code.
    Reset(u32),
}
