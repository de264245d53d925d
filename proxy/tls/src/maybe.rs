//! Connection with or without mesh TLS.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{TlsStream, engine::Io};

/// Plaintext connection of type `P`, or mesh TLS over an `I`.
#[derive(Debug)]
pub enum MaybeTls<P, I = P> {
    /// Plaintext, or TLS that is not terminated here.
    Plain(P),
    /// Mesh TLS.
    Tls(TlsStream<I>),
}

impl<P> MaybeTls<P> {
    /// Returns the underlying connection.
    pub fn get_ref(&self) -> &P {
        match self {
            Self::Plain(io) => io,
            Self::Tls(io) => io.get_ref(),
        }
    }
}

macro_rules! each {
    ($stream:expr, $io:ident => $call:expr) => {
        match $stream {
            MaybeTls::Plain($io) => $call,
            MaybeTls::Tls($io) => $call,
        }
    };
}

impl<P: Io, I: Io> AsyncRead for MaybeTls<P, I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), io => Pin::new(io).poll_read(cx, buf))
    }
}

impl<P: Io, I: Io> AsyncWrite for MaybeTls<P, I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), io => Pin::new(io).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), io => Pin::new(io).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        each!(self, io => io.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), io => Pin::new(io).poll_shutdown(cx))
    }
}
