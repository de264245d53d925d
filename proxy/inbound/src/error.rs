//! Errors that end an inbound connection early. A failed request is answered instead (see `request`).

use std::io;

use proxy_model::{OrigDstAddr, Reason};

/// Error that ended a connection early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client closed before it sent anything.
    #[error("client closed the connection before sending anything")]
    Closed,
    /// The connection was for another host.
    #[error("refusing connection to {0}: not an address of this workload")]
    NotLocal(OrigDstAddr),
    /// The connection would loop back to this proxy.
    #[error("refusing connection to port {0}: it is the proxy's own")]
    Loop(u16),
    /// The client sent no bytes to detect TLS by.
    #[error("timed out waiting for a ClientHello")]
    TlsDetectTimeout,
    /// The TLS handshake failed.
    #[error(transparent)]
    Tls(#[from] proxy_tls::Error),
    /// A connection to the proxy itself was rejected.
    #[error("cannot accept a direct connection: {0}")]
    Direct(#[from] DirectError),
    /// The policy of the port is not known.
    #[error("policy of port {0} is not known")]
    PolicyUnknown(u16),
    /// The client sent no request for too long.
    #[error("timed out waiting for a request")]
    Silent,
    /// The policy of the port is about requests, and this connection carries none.
    #[error("the policy of the port requires HTTP")]
    HttpRequired,
    /// No authorization allows this client.
    #[error("unauthorized client")]
    Unauthorized,
    /// No authorization allows this client any more.
    #[error("client is no longer authorized")]
    Terminated,
    /// The application cannot be reached.
    #[error(transparent)]
    Connect(#[from] proxy_transport::Error),
    /// An opaque connection failed.
    #[error(transparent)]
    Broken(#[from] proxy_transport::copy::CopyError),
    /// An HTTP connection failed.
    #[error("HTTP connection failed: {0}")]
    Http(#[from] proxy_http::Error),
    /// An upgraded connection failed.
    #[error(transparent)]
    Upgrade(#[from] proxy_http::upgrade::Error),
    /// The client's connection failed.
    #[error("client connection failed: {0}")]
    Io(#[from] io::Error),
}

/// Error of a connection to the proxy's own port (4143).
#[derive(Debug, thiserror::Error)]
pub enum DirectError {
    /// The client did not use mesh TLS.
    #[error("mesh TLS is required")]
    NoTls,
    /// The client presented no leaf.
    #[error("a client certificate is required")]
    NoClientId,
    /// The client did not negotiate the transport header.
    #[error("the transport header is required")]
    NoTransportHeader,
    /// The header did not arrive in time.
    #[error("timed out waiting for the transport header")]
    HeaderTimeout,
    /// The header is invalid.
    #[error(transparent)]
    Header(#[from] proxy_transport::Error),
    /// The header names a host: gateways are not supported.
    #[error("gateway requests are not supported (authority {0:?})")]
    NoGateway(String),
    /// The header names a port of the proxy itself.
    #[error("port {0} belongs to the proxy, and no Server names it")]
    OwnPort(u16),
}

impl Error {
    /// Returns the reason of this error; none for the regular end of a client.
    pub(crate) fn reason(&self) -> Option<Reason> {
        Some(match self {
            // A client that disconnects early is not our error.
            Self::Http(error) if error.is_end() => return None,
            Self::Closed => Reason::ClosedEarly,
            Self::NotLocal(_) => Reason::NotLocal,
            Self::Loop(_) => Reason::ProxyLoop,
            Self::TlsDetectTimeout => Reason::TlsDetectTimeout,
            Self::Tls(_) => Reason::TlsHandshakeFailed,
            Self::Direct(error) => error.reason(),
            Self::PolicyUnknown(_) => Reason::PolicyUnknown,
            Self::Silent => Reason::SilentClient,
            Self::HttpRequired => Reason::HttpRequired,
            Self::Unauthorized => Reason::Unauthorized,
            Self::Terminated => Reason::AuthorizationRevoked,
            Self::Connect(_) => Reason::ConnectFailed,
            Self::Broken(_) => Reason::ConnectionBroken,
            Self::Upgrade(_) => Reason::UpgradeFailed,
            Self::Http(_) | Self::Io(_) => Reason::ClientIo,
        })
    }
}

impl DirectError {
    fn reason(&self) -> Reason {
        match self {
            Self::NoTls => Reason::MeshTlsRequired,
            Self::NoClientId => Reason::ClientCertificateRequired,
            Self::NoTransportHeader => Reason::TransportHeaderRequired,
            Self::HeaderTimeout => Reason::TransportHeaderTimeout,
            Self::Header(_) => Reason::TransportHeaderInvalid,
            Self::NoGateway(_) => Reason::GatewayUnsupported,
            Self::OwnPort(_) => Reason::Unauthorized,
        }
    }
}
