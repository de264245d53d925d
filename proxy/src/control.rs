//! Clients of the control plane: connections, the proxy's identity, discovery. All on the control thread.

mod cache;
mod channel;
mod connect;
mod counted;
mod discovery;
mod identity;

pub(crate) use cache::CacheFile;
pub(crate) use channel::Channel;
pub(crate) use connect::Connector;
pub(crate) use discovery::Grpc;
pub(crate) use identity::{Certifier, CertifierParts, restore};

/// Error of a connection to a service of the control plane.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The service's name has no address.
    #[error("cannot resolve {name}: {reason}")]
    Resolve {
        /// Host name.
        name: String,
        /// Error of the resolver.
        reason: String,
    },
    /// The TCP connection failed.
    #[error(transparent)]
    Transport(#[from] proxy_transport::Error),
    /// The TLS handshake failed.
    #[error(transparent)]
    Tls(#[from] proxy_tls::Error),
    /// The HTTP/2 handshake failed.
    #[error("HTTP/2 handshake failed: {0}")]
    Http(#[from] hyper::Error),
    /// The proxy is ending.
    #[error("the channel is closed")]
    Closed,
}
