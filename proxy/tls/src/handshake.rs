//! Handshakes: peer selection, time limit, and the identity of the peer.

use std::{future::Future, io};

use proxy_model::{Id, TlsIdentity, limits::TLS_HANDSHAKE};
use proxy_transport::timers;
use rustls::{CommonState, pki_types::ServerName};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Alpn, Error, Tls, TlsStream, verify::leaf_ids};

/// TLS connection to a server.
pub type ClientStream<I> = TlsStream<I>;
/// TLS connection from a client.
pub type ServerStream<I> = TlsStream<I>;

/// Accepted client connection with the facts its handshake established.
#[derive(Debug)]
pub struct Accepted<I> {
    /// The TLS stream.
    pub io: ServerStream<I>,
    /// Identity of the client; none if it presented no leaf.
    pub client_id: Option<Id>,
    /// The client negotiated the transport header and will send one.
    pub transport_header: bool,
}

impl Tls {
    /// Performs a client handshake; fails unless the server has the expected identity.
    pub async fn connect<I>(&self, io: I, server: &TlsIdentity, alpn: Alpn) -> Result<ClientStream<I>, Error>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(&*server.server_name)
            .map_err(|_| Error::ServerName(server.server_name.to_string()))?;
        let config = self.configs().client(alpn);
        let (io, ids) = in_time(self.0.engine.connect(io, config, name.to_owned(), leaf)).await?;
        let ids = ids?.unwrap_or_default();
        if !ids.contains(&server.server_id) {
            let found = ids.iter().map(Id::as_str).collect::<Vec<_>>().join(", ");
            return Err(Error::WrongServer {
                expected: server.server_id.clone(),
                found,
            });
        }
        Ok(io)
    }

    /// Performs a server handshake. The caller has checked that the SNI is this workload's name.
    pub async fn accept<I>(&self, io: I, alpn: Alpn) -> Result<Accepted<I>, Error>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.configs().server(alpn).ok_or(Error::NotCertified)?;
        let facts = |common: &CommonState| (leaf(common), common.alpn_protocol().is_some());
        let (io, (ids, transport_header)) = in_time(self.0.engine.accept(io, config, facts)).await?;
        Ok(Accepted {
            client_id: ids?.and_then(|ids| ids.into_iter().next()),
            transport_header,
            io,
        })
    }
}

/// Returns the names in the peer's leaf, if it presented one.
fn leaf(common: &CommonState) -> Result<Option<Vec<Id>>, Error> {
    let leaf = common.peer_certificates().and_then(<[_]>::first);
    leaf.map(|leaf| leaf_ids(leaf)).transpose().map_err(Error::Credentials)
}

async fn in_time<T>(handshake: impl Future<Output = io::Result<T>>) -> Result<T, Error> {
    match timers::timeout(TLS_HANDSHAKE.value, handshake).await {
        Ok(done) => done.map_err(Error::Handshake),
        Err(_) => Err(Error::Timeout(TLS_HANDSHAKE.value)),
    }
}
