//! The proxy's dealings with the control plane: connections, its own identity, discovery. All on the control thread.

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
pub(crate) use identity::{Certifier, Parts as CertifierParts, restore};

/// What goes wrong with a service of the control plane.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The service's name has no address.
    #[error("{name} cannot be resolved: {reason}")]
    Resolve {
        /// The name.
        name: String,
        /// What the resolver says.
        reason: String,
    },
    /// No connection.
    #[error(transparent)]
    Transport(#[from] proxy_transport::Error),
    /// No mesh TLS.
    #[error(transparent)]
    Tls(#[from] proxy_tls::Error),
    /// No HTTP/2.
    #[error("HTTP/2 failed: {0}")]
    Http(#[from] hyper::Error),
    /// The proxy is ending.
    #[error("the connection is not kept up any more")]
    Closed,
}
