//! Handshakes: rustls performs them, and the stream takes over with the keys.

use std::{io, sync::Arc};

use rustls::{
    ClientConfig, CommonState, ServerConfig, client::UnbufferedClientConnection, pki_types::ServerName,
    server::UnbufferedServerConnection,
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    TlsStream,
    secrets::SecretCapture,
    session::{Established, Session, shake_hands},
};

/// Lets this crate take the keys of connections made with `config`.
pub fn prepare_client(config: &mut ClientConfig) {
    config.enable_secret_extraction = true;
    config.key_log = Arc::new(SecretCapture);
}

/// Lets this crate take the keys of connections made with `config`.
pub fn prepare_server(config: &mut ServerConfig) {
    config.enable_secret_extraction = true;
    config.key_log = Arc::new(SecretCapture);
}

/// Performs a client handshake with a prepared configuration. `facts` extracts what the caller wants to know of the
/// peer.
pub async fn connect<I, T>(
    io: I,
    config: Arc<ClientConfig>,
    server: ServerName<'static>,
    facts: impl FnOnce(&CommonState) -> T,
) -> io::Result<(TlsStream<I>, T)>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    establish(io, UnbufferedClientConnection::new(config, server), facts).await
}

/// Performs a server handshake with a prepared configuration. `facts` extracts what the caller wants to know of the
/// peer.
pub async fn accept<I, T>(
    io: I,
    config: Arc<ServerConfig>,
    facts: impl FnOnce(&CommonState) -> T,
) -> io::Result<(TlsStream<I>, T)>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    establish(io, UnbufferedServerConnection::new(config), facts).await
}

async fn establish<I, S, T>(
    mut io: I,
    session: Result<S, rustls::Error>,
    facts: impl FnOnce(&CommonState) -> T,
) -> io::Result<(TlsStream<I>, T)>
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: Session,
{
    let failed = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut session = session.map_err(failed)?;
    let (rest, captured) = shake_hands(&mut session, &mut io).await?;
    let facts = facts(session.common());
    let suite = session.common().negotiated_cipher_suite();
    let suite = suite.ok_or_else(|| failed(rustls::Error::HandshakeNotComplete))?;
    let secrets = session.finish().map_err(failed)?;
    let established = Established {
        secrets,
        captured,
        is_client: S::IS_CLIENT,
        suite,
        rest,
    };
    Ok((TlsStream::new(io, established).map_err(failed)?, facts))
}
