//! Why an inbound connection ended early. What goes wrong with a single request is answered instead (see `request`).

use std::io;

use proxy_metrics::names;
use proxy_model::OrigDstAddr;

/// Why a connection ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client closed before it sent anything.
    #[error("the client closed the connection before it sent anything")]
    Closed,
    /// The connection was for another host.
    #[error("the connection is for {0}, which is not an address of this workload")]
    NotLocal(OrigDstAddr),
    /// The connection would come back to this proxy.
    #[error("the connection is for port {0}, which is this proxy's own")]
    Loop(u16),
    /// The client sent no ClientHello and nothing else.
    #[error("the client sent nothing to tell TLS by in time")]
    TlsDetectTimeout,
    /// The handshake failed.
    #[error(transparent)]
    Tls(#[from] proxy_tls::Error),
    /// A connection to the proxy itself was refused.
    #[error("a connection with a transport header was refused: {0}")]
    Direct(#[from] DirectRefusal),
    /// Nothing lets this client in.
    #[error("the client is not authorized")]
    Unauthorized,
    /// Nothing lets this client in any more.
    #[error("the client is no longer authorized")]
    Terminated,
    /// The application cannot be reached.
    #[error(transparent)]
    Connect(#[from] proxy_transport::Error),
    /// An opaque connection broke.
    #[error(transparent)]
    Broken(#[from] proxy_transport::copy::Broken),
    /// An HTTP connection broke.
    #[error("the HTTP connection failed: {0}")]
    Http(#[from] proxy_http::Error),
    /// An upgraded connection broke.
    #[error(transparent)]
    Upgrade(#[from] proxy_http::upgrade::Error),
    /// The client's connection broke.
    #[error("the client's connection broke: {0}")]
    Io(#[from] io::Error),
}

/// Why a connection to the proxy itself (port 4143) was refused.
#[derive(Debug, thiserror::Error)]
pub enum DirectRefusal {
    /// No mesh TLS.
    #[error("mesh TLS is required")]
    NoTls,
    /// No client leaf.
    #[error("a client certificate is required")]
    NoClientId,
    /// No ALPN.
    #[error("the transport header is required")]
    NoTransportHeader,
    /// The header did not come.
    #[error("the transport header did not come in time")]
    HeaderTimeout,
    /// The header is garbled.
    #[error(transparent)]
    Header(#[from] proxy_transport::Error),
    /// The header names a host: a gateway is asked for, and this proxy is none.
    #[error("{0:?} is asked for, and this proxy is no gateway")]
    NoGateway(String),
}

impl Error {
    /// Value of the label `error`; none for what is no fault, and for what is counted elsewhere.
    pub(crate) fn label(&self) -> Option<&'static str> {
        use names::error;
        match self {
            Self::Closed | Self::Unauthorized | Self::Terminated => None,
            Self::TlsDetectTimeout => Some(error::TLS_DETECT_TIMEOUT),
            Self::Direct(DirectRefusal::NoGateway(_)) => Some(error::GATEWAY_DOMAIN_INVALID),
            Self::Io(_) | Self::Connect(_) | Self::Broken(_) | Self::Upgrade(_) | Self::Tls(_) => Some(error::IO),
            Self::NotLocal(_) | Self::Loop(_) | Self::Direct(_) => Some(error::UNEXPECTED),
            // A client that goes away in the middle of something is no error of ours.
            Self::Http(e) if e.is_end() => None,
            Self::Http(_) => Some(error::IO),
        }
    }
}
