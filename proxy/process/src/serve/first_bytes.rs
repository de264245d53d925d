//! Time limit until the first bytes tell HTTP/1 from HTTP/2; hyper has none for it.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::AnyIo;

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Byte stream that fails when the version of HTTP is not known in time.
pub(super) struct FirstBytes {
    io: AnyIo,
    /// Bytes read that may still become the preface of HTTP/2, and the time for it; none once the version is known.
    undecided: Option<(usize, Pin<Box<Sleep>>)>,
    is_http2: Arc<AtomicBool>,
}

impl FirstBytes {
    /// A stream, and whether it has turned out to be HTTP/2.
    pub(super) fn new(io: AnyIo, time: Duration) -> (Self, Arc<AtomicBool>) {
        let is_http2 = Arc::new(AtomicBool::new(false));
        let stream = Self {
            io,
            undecided: Some((0, Box::pin(sleep(time)))),
            is_http2: Arc::clone(&is_http2),
        };
        (stream, is_http2)
    }

    fn read(&mut self, bytes: &[u8]) {
        let Some((seen, _)) = &mut self.undecided else { return };
        let expected = &PREFACE[*seen..];
        let compared = expected.len().min(bytes.len());
        let matches = bytes[..compared] == expected[..compared];
        *seen += compared;
        if bytes.is_empty() || !matches {
            self.undecided = None;
        } else if *seen == PREFACE.len() {
            self.undecided = None;
            self.is_http2.store(true, Relaxed);
        }
    }
}

impl AsyncRead for FirstBytes {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.io).poll_read(cx, buf) {
            read?;
            this.read(&buf.filled()[before..]);
            return Poll::Ready(Ok(()));
        }
        match &mut this.undecided {
            None => Poll::Pending,
            Some((_, time)) => {
                ready!(time.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncWrite for FirstBytes {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
