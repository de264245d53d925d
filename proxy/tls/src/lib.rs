//! Mesh TLS: who we are, whom we believe, and handshakes in both directions.
//!
//! [`Tls`] is the handle that everything holds. The identity client publishes [`Credentials`] to it again and again; each
//! publication prepares the configurations once, and a handshake takes the newest ones. Connections that are open stay as
//! they are.

mod buffers;
mod config;
mod credentials;
mod handshake;
mod record;
mod secrets;
mod session;
mod stream;
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
pub use handshake::{Accepted, ClientStream, ServerStream};
pub use stream::TlsStream;
pub use verify::leaf_ids;

/// ALPN protocol under which a stream begins with a transport header.
pub const TRANSPORT_HEADER_ALPN: &[u8] = b"transport.l5d.io/v1";

/// Which protocol a handshake offers (client) or takes (server).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// None; what a client offers is ignored.
    None,
    /// The transport header.
    TransportHeader,
}

/// What goes wrong with mesh TLS.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The trust anchors are no certificates.
    #[error("the trust anchors are invalid: {0}")]
    Anchors(String),
    /// The issued chain or its key cannot be used.
    #[error("the credentials are invalid: {0}")]
    Credentials(String),
    /// There is no leaf yet.
    #[error("this workload has no certificate yet")]
    NotCertified,
    /// The handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Handshake(io::Error),
    /// The peer took too long.
    #[error("the TLS handshake took longer than {0:?}")]
    Timeout(Duration),
    /// The server is believed, but it is someone else.
    #[error("the server is {found}, not {expected}")]
    WrongServer {
        /// Whom the client wanted.
        expected: Id,
        /// The names that its leaf carries.
        found: String,
    },
    /// The name to ask for is no name.
    #[error("{0:?} is no server name")]
    ServerName(String),
}

/// Handle on the process's TLS. Cheap to clone; the same for all threads.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    local_id: Id,
    anchors: Anchors,
    configs: watch::Sender<Arc<Configs>>,
}

impl Tls {
    /// A workload without a leaf: it can connect without presenting one, and accept nothing.
    pub fn new(local_id: Id, anchors: Anchors) -> Result<Self, Error> {
        let configs = Configs::without_leaf(&anchors)?;
        Ok(Self(Arc::new(Inner {
            local_id,
            anchors,
            configs: watch::Sender::new(Arc::new(configs)),
        })))
    }

    /// Who we are.
    pub fn local_id(&self) -> &Id {
        &self.0.local_id
    }

    /// Verifies the chain as a peer would, and that it is ours, and uses it for every handshake from now on.
    pub fn publish(&self, credentials: &Credentials) -> Result<(), Error> {
        credentials.verify(&self.0.local_id, &self.0.anchors, SystemTime::now())?;
        let configs = Configs::with_leaf(&self.0.anchors, credentials)?;
        self.0.configs.send_replace(Arc::new(configs));
        Ok(())
    }

    /// Whether there is a leaf.
    pub fn is_certified(&self) -> bool {
        self.0.configs.borrow().valid_until.is_some()
    }

    /// When the leaf ends.
    pub fn valid_until(&self) -> Option<SystemTime> {
        self.0.configs.borrow().valid_until
    }

    /// Waits for the first leaf.
    pub async fn certified(&self) {
        let mut configs = self.0.configs.subscribe();
        let _ = configs.wait_for(|configs| configs.valid_until.is_some()).await;
    }

    /// What a client handshakes by, for those who do it by other means: the benchmark's bare pair, and tests.
    pub fn client_config(&self, alpn: Alpn) -> Arc<rustls::ClientConfig> {
        self.configs().client(alpn)
    }

    /// The same of a server, once it has a leaf.
    pub fn server_config(&self, alpn: Alpn) -> Option<Arc<rustls::ServerConfig>> {
        self.configs().server(alpn)
    }

    fn configs(&self) -> Arc<Configs> {
        Arc::clone(&self.0.configs.borrow())
    }
}

#[cfg(test)]
mod tests;
