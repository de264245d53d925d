//! Mesh TLS: the workload's identity, verification of peers, and handshakes in both directions.
//!
//! [`Tls`] is the shared handle. The identity client publishes [`Credentials`] to it again and again; each publication
//! prepares the configurations once, and new handshakes use the latest. Open connections are unaffected.

mod config;
mod credentials;
mod engine;
mod handshake;
mod maybe;
mod verify;

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use proxy_model::Id;
use tokio::sync::watch;

use crate::config::Configs;
pub use credentials::{Anchors, Credentials};
pub use engine::{Engine, TlsStream};
pub use handshake::{Accepted, ClientStream, ServerStream};
pub use maybe::MaybeTls;
pub use verify::leaf_ids;

/// ALPN protocol of streams that begin with a transport header.
pub const TRANSPORT_HEADER_ALPN: &[u8] = b"transport.l5d.io/v1";

/// ALPN protocol that a client offers or a server accepts.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// No ALPN; a client's offer is ignored.
    None,
    /// The transport header.
    TransportHeader,
}

/// Mesh TLS errors.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The trust anchors cannot be parsed.
    #[error("invalid trust anchors: {0}")]
    Anchors(String),
    /// The issued chain or its key cannot be used.
    #[error("invalid credentials: {0}")]
    Credentials(String),
    /// No leaf has been issued yet.
    #[error("no certificate has been issued to this workload yet")]
    NotCertified,
    /// The handshake failed.
    #[error("TLS handshake failed: {0}")]
    Handshake(io::Error),
    /// The handshake timed out.
    #[error("TLS handshake timed out after {0:?}")]
    Timeout(Duration),
    /// The server's chain is valid, but names another workload.
    #[error("unexpected server identity: {found}, expected {expected}")]
    WrongServer {
        /// Identity that the client expected.
        expected: Id,
        /// Names in the server's leaf.
        found: String,
    },
    /// The server name cannot be sent as SNI.
    #[error("invalid server name {0:?}")]
    ServerName(String),
}

/// Handle to the TLS state of the process. Cheap to clone and shared by all threads.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    local_id: Id,
    anchors: Anchors,
    engine: Engine,
    configs: watch::Sender<Arc<Configs>>,
}

impl Tls {
    /// Creates the handle of a workload without a leaf: it can connect without presenting one, and cannot accept.
    pub fn new(local_id: Id, anchors: Anchors) -> Result<Self, Error> {
        Self::with_engine(local_id, anchors, Engine::default())
    }

    /// Like [`Tls::new`], with an engine other than the default.
    pub fn with_engine(local_id: Id, anchors: Anchors, engine: Engine) -> Result<Self, Error> {
        let configs = Configs::without_leaf(&anchors, engine)?;
        Ok(Self(Arc::new(Inner {
            local_id,
            anchors,
            engine,
            configs: watch::Sender::new(Arc::new(configs)),
        })))
    }

    /// Returns this workload's identity.
    pub fn local_id(&self) -> &Id {
        &self.0.local_id
    }

    /// Verifies the chain as a peer would, and its name, and uses it for every later handshake.
    pub fn publish(&self, credentials: &Credentials) -> Result<(), Error> {
        credentials.verify(&self.0.local_id, &self.0.anchors, SystemTime::now())?;
        let configs = Configs::with_leaf(&self.0.anchors, credentials, self.0.engine)?;
        self.0.configs.send_replace(Arc::new(configs));
        Ok(())
    }

    /// Returns true once a leaf has been published.
    pub fn is_certified(&self) -> bool {
        self.0.configs.borrow().valid_until.is_some()
    }

    /// Returns the expiry of the leaf.
    pub fn valid_until(&self) -> Option<SystemTime> {
        self.0.configs.borrow().valid_until
    }

    /// Waits until the first leaf has been published.
    pub async fn certified(&self) {
        let mut configs = self.0.configs.subscribe();
        let _ = configs.wait_for(|configs| configs.valid_until.is_some()).await;
    }

    /// Returns the client configuration, for handshakes made by other means: the benchmark's bare pair, and tests.
    pub fn client_config(&self, alpn: Alpn) -> Arc<rustls::ClientConfig> {
        self.configs().client(alpn)
    }

    /// Returns the server configuration, once a leaf has been published.
    pub fn server_config(&self, alpn: Alpn) -> Option<Arc<rustls::ServerConfig>> {
        self.configs().server(alpn)
    }

    fn configs(&self) -> Arc<Configs> {
        Arc::clone(&self.0.configs.borrow())
    }
}

#[cfg(test)]
mod tests;
