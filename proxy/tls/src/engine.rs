//! Seam between mesh TLS and the engine that carries it.
//!
//! Two engines implement [`Maker`]: the in-place records of `proxy-tls-records`, and tokio-rustls. The `default` line
//! of this crate's `Cargo.toml` selects the one that the proxy is built with; the tests run with both. A build with a
//! single engine has a single variant to match, so the seam costs nothing at run time.

#[cfg(feature = "records")]
mod records;
#[cfg(feature = "tokio-rustls")]
mod rustls_stream;

use std::{io, sync::Arc};

use proxy_transport::{delegate_read, delegate_write};
use rustls::{ClientConfig, CommonState, ServerConfig, pki_types::ServerName};
use tokio::io::{AsyncRead, AsyncWrite};

/// Engine that performs handshakes and carries the bytes of a connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Engine {
    /// In-place records of `proxy-tls-records`.
    #[cfg(feature = "records")]
    Records,
    /// tokio-rustls.
    #[cfg(feature = "tokio-rustls")]
    TokioRustls,
}

impl Engine {
    /// Engines of this build, the default one first.
    pub const ALL: &[Self] = &[
        #[cfg(feature = "records")]
        Self::Records,
        #[cfg(feature = "tokio-rustls")]
        Self::TokioRustls,
    ];

    pub(crate) fn prepare_client(self, config: &mut ClientConfig) {
        match self {
            #[cfg(feature = "records")]
            Self::Records => records::Records::prepare_client(config),
            #[cfg(feature = "tokio-rustls")]
            Self::TokioRustls => rustls_stream::TokioRustls::prepare_client(config),
        }
    }

    pub(crate) fn prepare_server(self, config: &mut ServerConfig) {
        match self {
            #[cfg(feature = "records")]
            Self::Records => records::Records::prepare_server(config),
            #[cfg(feature = "tokio-rustls")]
            Self::TokioRustls => rustls_stream::TokioRustls::prepare_server(config),
        }
    }

    pub(crate) async fn connect<I: Io, T>(
        self,
        io: I,
        config: Arc<ClientConfig>,
        server: ServerName<'static>,
        facts: impl FnOnce(&CommonState) -> T,
    ) -> io::Result<(TlsStream<I>, T)> {
        match self {
            #[cfg(feature = "records")]
            Self::Records => records::Records::connect(io, config, server, facts).await,
            #[cfg(feature = "tokio-rustls")]
            Self::TokioRustls => rustls_stream::TokioRustls::connect(io, config, server, facts).await,
        }
    }

    pub(crate) async fn accept<I: Io, T>(
        self,
        io: I,
        config: Arc<ServerConfig>,
        facts: impl FnOnce(&CommonState) -> T,
    ) -> io::Result<(TlsStream<I>, T)> {
        match self {
            #[cfg(feature = "records")]
            Self::Records => records::Records::accept(io, config, facts).await,
            #[cfg(feature = "tokio-rustls")]
            Self::TokioRustls => rustls_stream::TokioRustls::accept(io, config, facts).await,
        }
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self::ALL[0]
    }
}

/// I/O that a TLS stream can be established over.
pub trait Io: AsyncRead + AsyncWrite + Unpin {}

impl<I: AsyncRead + AsyncWrite + Unpin> Io for I {}

/// Maker of TLS streams. `facts` extracts what the caller wants to know of the peer once the handshake is done.
pub(crate) trait Maker {
    /// Adjusts a configuration for this engine.
    fn prepare_client(config: &mut ClientConfig);

    /// Adjusts a configuration for this engine.
    fn prepare_server(config: &mut ServerConfig);

    /// Performs a client handshake.
    async fn connect<I: Io, T>(
        io: I,
        config: Arc<ClientConfig>,
        server: ServerName<'static>,
        facts: impl FnOnce(&CommonState) -> T,
    ) -> io::Result<(TlsStream<I>, T)>;

    /// Performs a server handshake.
    async fn accept<I: Io, T>(
        io: I,
        config: Arc<ServerConfig>,
        facts: impl FnOnce(&CommonState) -> T,
    ) -> io::Result<(TlsStream<I>, T)>;
}

/// Established TLS connection. Boxed: its state is large, and a connection moves through several phases.
#[derive(Debug)]
pub enum TlsStream<I> {
    /// Stream of `proxy-tls-records`.
    #[cfg(feature = "records")]
    Records(Box<proxy_tls_records::TlsStream<I>>),
    /// Stream of tokio-rustls.
    #[cfg(feature = "tokio-rustls")]
    TokioRustls(Box<tokio_rustls::TlsStream<I>>),
}

macro_rules! each {
    ($stream:expr, $io:ident => $call:expr) => {
        match $stream {
            #[cfg(feature = "records")]
            TlsStream::Records($io) => $call,
            #[cfg(feature = "tokio-rustls")]
            TlsStream::TokioRustls($io) => $call,
        }
    };
}

impl<I> TlsStream<I> {
    /// Returns the underlying connection.
    pub fn get_ref(&self) -> &I {
        match self {
            #[cfg(feature = "records")]
            Self::Records(io) => io.get_ref(),
            #[cfg(feature = "tokio-rustls")]
            Self::TokioRustls(io) => io.get_ref().0,
        }
    }
}

delegate_read!(impl<I> TlsStream<I> where {I: Io}, each);
delegate_write!(impl<I> TlsStream<I> where {I: Io}, each);
