//! Handshakes: with whom, in how much time, and who the peer turned out to be.

use std::{future::Future, io};

use proxy_model::{Id, TlsIdentity, limits::TLS_HANDSHAKE};
use proxy_transport::timers;
use rustls::{
    CommonState, client::UnbufferedClientConnection, pki_types::ServerName, server::UnbufferedServerConnection,
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    Alpn, Error, Tls, TlsStream,
    session::{Established, Session, shake_hands},
    verify::leaf_ids,
};

/// A connection to a server.
pub type ClientStream<I> = TlsStream<I>;
/// A connection from a client.
pub type ServerStream<I> = TlsStream<I>;

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
        let session = UnbufferedClientConnection::new(self.configs().client(alpn), name.to_owned());
        let (io, ids) = in_time(establish(io, session, leaf)).await?;
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

    /// Handshakes as a server. The caller has seen that the SNI is our name.
    pub async fn accept<I>(&self, io: I, alpn: Alpn) -> Result<Accepted<I>, Error>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.configs().server(alpn).ok_or(Error::NotCertified)?;
        let session = UnbufferedServerConnection::new(config);
        let known = |common: &CommonState| (leaf(common), common.alpn_protocol().is_some());
        let (io, (ids, transport_header)) = in_time(establish(io, session, known)).await?;
        Ok(Accepted {
            client_id: ids?.and_then(|ids| ids.into_iter().next()),
            transport_header,
            io,
        })
    }
}

/// The names of the peer's leaf, if it has one.
fn leaf(common: &CommonState) -> Result<Option<Vec<Id>>, Error> {
    let leaf = common.peer_certificates().and_then(<[_]>::first);
    leaf.map(|leaf| leaf_ids(leaf)).transpose().map_err(Error::Credentials)
}

/// Shakes hands, and gives the connection with what is `known` of the peer then.
async fn establish<I, S, T>(
    mut io: I,
    session: Result<S, rustls::Error>,
    known: impl FnOnce(&CommonState) -> T,
) -> io::Result<(TlsStream<I>, T)>
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: Session,
{
    let failed = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut session = session.map_err(failed)?;
    let (rest, noted) = shake_hands(&mut session, &mut io).await?;
    let known = known(session.common());
    let suite = session.common().negotiated_cipher_suite();
    let suite = suite.ok_or_else(|| failed(rustls::Error::HandshakeNotComplete))?;
    let secrets = session.finish().map_err(failed)?;
    let established = Established {
        secrets,
        noted,
        is_client: S::IS_CLIENT,
        suite,
        rest,
    };
    Ok((TlsStream::new(io, established).map_err(failed)?, known))
}

async fn in_time<T>(handshake: impl Future<Output = io::Result<T>>) -> Result<T, Error> {
    match timers::timeout(TLS_HANDSHAKE.value, handshake).await {
        Ok(done) => done.map_err(Error::Handshake),
        Err(_) => Err(Error::Timeout(TLS_HANDSHAKE.value)),
    }
}
