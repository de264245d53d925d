//! Engine of tokio-rustls: the twin that the records are tested against, and the way back from them.

use std::{io, sync::Arc};

use rustls::{ClientConfig, CommonState, ServerConfig, pki_types::ServerName};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{Io, Maker, TlsStream};

/// Maker of tokio-rustls streams.
pub(crate) struct TokioRustls;

impl Maker for TokioRustls {
    fn prepare_client(_config: &mut ClientConfig) {}

    fn prepare_server(_config: &mut ServerConfig) {}

    async fn connect<I: Io, T>(
        io: I,
        config: Arc<ClientConfig>,
        server: ServerName<'static>,
        facts: impl FnOnce(&CommonState) -> T,
    ) -> io::Result<(TlsStream<I>, T)> {
        let stream = TlsConnector::from(config).connect(server, io).await?;
        let facts = facts(stream.get_ref().1);
        Ok((TlsStream::TokioRustls(Box::new(stream.into())), facts))
    }

    async fn accept<I: Io, T>(
        io: I,
        config: Arc<ServerConfig>,
        facts: impl FnOnce(&CommonState) -> T,
    ) -> io::Result<(TlsStream<I>, T)> {
        let stream = TlsAcceptor::from(config).accept(io).await?;
        let facts = facts(stream.get_ref().1);
        Ok((TlsStream::TokioRustls(Box::new(stream.into())), facts))
    }
}
