//! Engine of `proxy-tls-records`.

use std::{io, sync::Arc};

use rustls::{ClientConfig, CommonState, ServerConfig, pki_types::ServerName};

use super::{Io, Maker, TlsStream};

/// Maker of in-place record streams.
pub(crate) struct Records;

impl Maker for Records {
    fn prepare_client(config: &mut ClientConfig) {
        proxy_tls_records::prepare_client(config);
    }

    fn prepare_server(config: &mut ServerConfig) {
        proxy_tls_records::prepare_server(config);
    }

    async fn connect<I: Io, T>(
        io: I,
        config: Arc<ClientConfig>,
        server: ServerName<'static>,
        facts: impl FnOnce(&CommonState) -> T,
    ) -> io::Result<(TlsStream<I>, T)> {
        let (stream, facts) = proxy_tls_records::connect(io, config, server, facts).await?;
        Ok((TlsStream::Records(Box::new(stream)), facts))
    }

    async fn accept<I: Io, T>(
        io: I,
        config: Arc<ServerConfig>,
        facts: impl FnOnce(&CommonState) -> T,
    ) -> io::Result<(TlsStream<I>, T)> {
        let (stream, facts) = proxy_tls_records::accept(io, config, facts).await?;
        Ok((TlsStream::Records(Box::new(stream)), facts))
    }
}
