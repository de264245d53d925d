//! Time limits on bytes that hyper has none for: until the first ones tell HTTP/1 from HTTP/2, and for those that wait
//! for a client that does not read.

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

/// Facts about a stream that its connection asks for.
#[derive(Debug, Default)]
pub(super) struct Observed {
    is_http2: AtomicBool,
    is_unread: AtomicBool,
}

impl Observed {
    /// Returns true if the client has begun HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.is_http2.load(Relaxed)
    }

    /// Returns true if the client did not read in time.
    pub(super) fn is_unread(&self) -> bool {
        self.is_unread.load(Relaxed)
    }
}

/// Byte stream that fails when the version of HTTP is not known in time, or when written bytes wait for too long.
pub(super) struct TimedIo {
    io: AnyIo,
    /// Bytes read that may still become the preface of HTTP/2, and the time for it; none once the version is known.
    undecided: Option<(usize, Pin<Box<Sleep>>)>,
    write: Duration,
    /// Time for the bytes that wait to be written; none while none do.
    blocked: Option<Pin<Box<Sleep>>>,
    observed: Arc<Observed>,
}

impl TimedIo {
    pub(super) fn new(io: AnyIo, first_bytes: Duration, write: Duration) -> Self {
        Self {
            io,
            undecided: Some((0, Box::pin(sleep(first_bytes)))),
            write,
            blocked: None,
            observed: Arc::default(),
        }
    }

    pub(super) fn observed(&self) -> Arc<Observed> {
        Arc::clone(&self.observed)
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
            self.observed.is_http2.store(true, Relaxed);
        }
    }

    /// Limits the time from the first write that has to wait until all bytes are gone.
    fn wait<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            return written;
        }
        let time = self.write;
        let blocked = self.blocked.get_or_insert_with(|| Box::pin(sleep(time)));
        ready!(blocked.as_mut().poll(cx));
        self.observed.is_unread.store(true, Relaxed);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for TimedIo {
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

impl AsyncWrite for TimedIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.wait(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.wait(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    /// hyper flushes when it has written all that it has.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        if flushed.is_ready() {
            self.blocked = None;
        }
        self.wait(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.io).poll_shutdown(cx);
        self.wait(cx, ended)
    }
}
