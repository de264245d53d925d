//! Proof that a server closed a connection before it could read the request that failed on it.
//!
//! When a server closes an idle connection just as a request goes out, the two cross on the way. The server's kernel
//! then answers the request's first segment with a reset, and ours reports by `EPIPE` that the reset followed an
//! orderly close. A server that read the segment, or closed with it unread, leaves a different trace: no reset, or
//! `ECONNRESET`. So the first write of an observed request is a single segment, and the next write waits for its
//! outcome.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Size that fits into one segment on any path: a segment is accepted or refused as a whole.
const SEGMENT: usize = 1200;

/// No request is observed.
const UNWATCHED: u8 = 0;
/// Nothing of the request has been written.
const NOTHING: u8 = 1;
/// One segment has been written.
const SEGMENT_WRITTEN: u8 = 2;
/// The server closed before it could read anything.
const REFUSED: u8 = 3;

/// Handle that observes one request after another on an [`ObservedTcp`] connection. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct CloseObserver(Arc<AtomicU8>);

impl CloseObserver {
    /// Starts to observe a request that is about to be written.
    pub fn watch(&self) {
        self.0.store(NOTHING, Relaxed);
    }

    /// Returns true if the server provably read nothing of the observed request and never will. Meant for a request
    /// that failed.
    pub fn is_not_read(&self) -> bool {
        self.0.load(Relaxed) == REFUSED
    }

    /// Records a failure of the connection; `after_close` tells whether it was a reset after an orderly close.
    fn failed(&self, after_close: impl FnOnce() -> bool) {
        let refused = match self.0.load(Relaxed) {
            NOTHING => true,
            SEGMENT_WRITTEN => after_close(),
            _ => false,
        };
        if refused {
            self.0.store(REFUSED, Relaxed);
        }
    }

    fn wrote(&self) {
        match self.0.load(Relaxed) {
            NOTHING => self.0.store(SEGMENT_WRITTEN, Relaxed),
            SEGMENT_WRITTEN => self.0.store(UNWATCHED, Relaxed),
            _ => {}
        }
    }
}

/// TCP connection that reports to its [`CloseObserver`].
#[derive(Debug)]
pub struct ObservedTcp {
    socket: TcpStream,
    close_observer: CloseObserver,
}

impl ObservedTcp {
    /// Wraps a socket together with a new observer.
    pub fn new(socket: TcpStream) -> Self {
        let close_observer = CloseObserver::default();
        Self { socket, close_observer }
    }

    /// Returns the socket.
    pub fn get_ref(&self) -> &TcpStream {
        &self.socket
    }

    /// Returns the observer of this connection.
    pub fn close_observer(&self) -> CloseObserver {
        self.close_observer.clone()
    }

    fn note_write(&self, result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Ready(Ok(_)) => self.close_observer.wrote(),
            Poll::Ready(Err(error)) => self.close_observer.failed(|| error.kind() == io::ErrorKind::BrokenPipe),
            Poll::Pending => {}
        }
    }

    fn is_first_write(&self) -> bool {
        self.close_observer.0.load(Relaxed) == NOTHING
    }
}

impl AsyncRead for ObservedTcp {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let (before, room) = (buf.filled().len(), buf.remaining());
        let result = Pin::new(&mut this.socket).poll_read(cx, buf);
        match &result {
            Poll::Ready(Ok(())) if buf.filled().len() == before && room > 0 => {
                let socket = SockRef::from(&this.socket);
                let is_reset = || matches!(socket.take_error(), Ok(Some(e)) if e.kind() == io::ErrorKind::BrokenPipe);
                this.close_observer.failed(is_reset);
            }
            Poll::Ready(Err(error)) => this.close_observer.failed(|| error.kind() == io::ErrorKind::BrokenPipe),
            _ => {}
        }
        result
    }
}

impl AsyncWrite for ObservedTcp {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let length = if this.is_first_write() { SEGMENT } else { usize::MAX };
        let result = Pin::new(&mut this.socket).poll_write(cx, &buf[..buf.len().min(length)]);
        this.note_write(&result);
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let fits = || bufs.iter().map(|buf| buf.len()).sum::<usize>() <= SEGMENT;
        if self.is_first_write() && !fits() {
            let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
            return self.poll_write(cx, first);
        }
        let this = self.get_mut();
        let result = Pin::new(&mut this.socket).poll_write_vectored(cx, bufs);
        this.note_write(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const LARGE: usize = 3 * SEGMENT;

    /// Sends an observed request of `length` bytes, written (as far as possible) by `write` with the server at hand;
    /// returns whether it is proven unread.
    async fn is_not_read(write: impl AsyncFnOnce(&mut ObservedTcp, std::net::TcpStream)) -> bool {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let socket = TcpStream::connect(addr).await.expect("it listens");
        let mut near = ObservedTcp::new(socket);
        let (mut far, _) = listener.accept().expect("a connection");
        // A previous exchange.
        near.write_all(b"first").await.expect("open");
        far.read_exact(&mut [0; 5]).expect("written");
        far.write_all(b"done").expect("open");
        near.read_exact(&mut [0; 4]).await.expect("an answer");
        let close_observer = near.close_observer();
        close_observer.watch();
        write(&mut near, far).await;
        let _ = near.read(&mut [0; 1]).await;
        close_observer.is_not_read()
    }

    #[tokio::test]
    async fn request_that_crosses_a_close_is_proven_unread() {
        let crossed = async |near: &mut ObservedTcp, far: std::net::TcpStream| {
            drop(far);
            near.write_all(b"request").await.expect("the system takes it");
        };
        assert!(is_not_read(crossed).await);
        let large = async |near: &mut ObservedTcp, far: std::net::TcpStream| {
            drop(far);
            let error = near.write_all(&[0; LARGE]).await.expect_err("refused");
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        };
        assert!(is_not_read(large).await);
    }

    #[tokio::test]
    async fn request_that_may_have_been_read_is_not_proven_unread() {
        let read = async |near: &mut ObservedTcp, mut far: std::net::TcpStream| {
            near.write_all(b"request").await.expect("open");
            far.read_exact(&mut [0; 7]).expect("written");
        };
        assert!(!is_not_read(read).await, "read, then closed");
        let unread = async |near: &mut ObservedTcp, _far: std::net::TcpStream| {
            near.write_all(b"request").await.expect("open");
        };
        assert!(!is_not_read(unread).await, "it was there to be read");
        let begun = async |near: &mut ObservedTcp, mut far: std::net::TcpStream| {
            near.write_all(&[0; SEGMENT]).await.expect("open");
            far.read_exact(&mut [0; SEGMENT]).expect("written");
            drop(far);
            near.write_all(&[0; SEGMENT]).await.expect("the system takes it");
        };
        assert!(!is_not_read(begun).await, "its beginning was read");
    }
}
