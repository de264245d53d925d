//! HTTP servers for a single connection, with the mesh's parameters and graceful shutdown.

mod events;
mod floods;
mod http1;
mod http2;
mod resets;

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use hyper::body::Incoming;
use proxy_metrics::Recorder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

pub use self::{
    http1::{ExchangeBody, http1},
    http2::http2,
};

/// Request body of an HTTP/1 server.
pub type ServedBody = ExchangeBody<Incoming>;

/// Parameters of HTTP/2 servers.
#[derive(Copy, Clone, Debug, Default)]
pub struct ServerParams {
    /// PINGs, also while idle; none disables them.
    pub ping: Option<Ping>,
}

/// PING parameters of an HTTP/2 server.
#[derive(Copy, Clone, Debug)]
pub struct Ping {
    /// Time between PINGs.
    pub interval: Duration,
    /// Time for an answer.
    pub timeout: Duration,
}

/// Trust in the client of a connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Client without an identity.
    Stranger,
    /// Meshed client, or the proxy's own application.
    Meshed,
}

/// Circumstances of a served connection.
#[derive(Copy, Clone, Debug)]
pub struct Serving<'a> {
    /// Trust in the client.
    pub trust: Trust,
    /// The client receives informational headers.
    pub informational_headers: bool,
    /// Address of the client, for the log.
    pub client: SocketAddr,
    /// Parameters of HTTP/2.
    pub params: ServerParams,
    /// Counts what limits refuse.
    pub metrics: &'a Recorder,
    /// Ends the connection gracefully.
    pub drain: &'a CancellationToken,
}

impl<'a> Serving<'a> {
    /// Creates the circumstances of a client that is not trusted and cannot be named.
    pub fn new(metrics: &'a Recorder, drain: &'a CancellationToken) -> Self {
        Self {
            trust: Trust::Stranger,
            informational_headers: false,
            client: (Ipv4Addr::UNSPECIFIED, 0).into(),
            params: ServerParams::default(),
            metrics,
            drain,
        }
    }
}

/// I/O that a client connection can be served over.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<I: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for I {}

#[cfg(test)]
pub(crate) mod tests;
