//! Handshakes: with whom, in how much time, and who the peer turned out to be.

use std::future::Future;

use proxy_model::{Id, TlsIdentity, limits::TLS_HANDSHAKE};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{Alpn, Error, Tls, verify::leaf_ids};

/// A connection to a server.
pub type ClientStream<I> = tokio_rustls::client::TlsStream<I>;
/// A connection from a client.
pub type ServerStream<I> = tokio_rustls::server::TlsStream<I>;

/// A connection from a client, and what is known of it.
#[derive(Debug)]
pub struct Accepted<I> {
    /// The connection.
    pub io: ServerStream<I>,
    /// Who the client is; none if it presented no leaf.
    pub client_id: Option<Id>,
    /// The client asked for the transport header and will send one.
    pub transport_header: bool,
}

impl Tls {
    /// Handshakes as a client; ends only with the server that was wanted.
    pub async fn connect<I>(&self, io: I, server: &TlsIdentity, alpn: Alpn) -> Result<ClientStream<I>, Error>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(&*server.server_name)
            .map_err(|_| Error::ServerName(server.server_name.to_string()))?;
        let connector = TlsConnector::from(self.configs().client(alpn));
        let io = in_time(connector.connect(name.to_owned(), io)).await?;
        let leaf = io.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let ids = leaf
            .map(|leaf| leaf_ids(leaf))
            .transpose()
            .map_err(Error::Credentials)?
            .unwrap_or_default();
        if !ids.contains(&server.server_id) {
            let found = ids.iter().map(Id::as_str).collect::<Vec<_>>().join(", ");
            return Err(Error::WrongServer {
                expected: server.server_id.clone(),
                found,
            });
        }
        Ok(io)
    }

    /// Handshakes as a server. The caller has seen that the SNI is our name.
    pub async fn accept<I>(&self, io: I, alpn: Alpn) -> Result<Accepted<I>, Error>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.configs().server(alpn).ok_or(Error::NotCertified)?;
        let io = in_time(TlsAcceptor::from(config).accept(io)).await?;
        let session = io.get_ref().1;
        let leaf = session.peer_certificates().and_then(<[_]>::first);
        let ids = leaf
            .map(|leaf| leaf_ids(leaf))
            .transpose()
            .map_err(Error::Credentials)?;
        let transport_header = session.alpn_protocol().is_some();
        Ok(Accepted {
            client_id: ids.and_then(|ids| ids.into_iter().next()),
            transport_header,
            io,
        })
    }
}

async fn in_time<T>(handshake: impl Future<Output = std::io::Result<T>>) -> Result<T, Error> {
    match tokio::time::timeout(TLS_HANDSHAKE, handshake).await {
        Ok(done) => done.map_err(Error::Handshake),
        Err(_) => Err(Error::Timeout(TLS_HANDSHAKE)),
    }
}
