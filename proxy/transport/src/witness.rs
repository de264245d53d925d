//! What a connection can prove of the request that failed on it: that the server had closed it before, and never read it.
//!
//! When a server closes an idle connection just as a request goes out, the two cross on the way. The server's system then
//! answers the request's first segment with a reset, and ours says by `EPIPE` that the reset came after an orderly close.
//! Whoever read the segment, or closed with it unread, gives another picture: no reset at all, or `ECONNRESET`. So the
//! first write of a watched request is one segment, and the next one waits for what became of it.

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

/// What fits into a segment on any path: a segment is taken whole or refused whole.
const SEGMENT: usize = 1200;

/// Nobody asks.
const UNWATCHED: u8 = 0;
/// Nothing of the request was written.
const NOTHING: u8 = 1;
/// One segment of it was.
const SEGMENT_WRITTEN: u8 = 2;
/// The server had closed before it could read anything.
const REFUSED: u8 = 3;

/// Asks a [`Witnessed`] connection about one request after another. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Witness(Arc<AtomicU8>);

impl Witness {
    /// A request is about to be written.
    pub fn watch(&self) {
        self.0.store(NOTHING, Relaxed);
    }

    /// Whether the server provably read nothing of the watched request, and never will. Asked when it has failed.
    pub fn is_unread(&self) -> bool {
        self.0.load(Relaxed) == REFUSED
    }

    /// The connection failed. `after_close`: by a reset after an orderly close.
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

/// A TCP connection that tells its [`Witness`] what happens.
#[derive(Debug)]
pub struct Witnessed {
    socket: TcpStream,
    witness: Witness,
}

impl Witnessed {
    /// A connection with its witness.
    pub fn new(socket: TcpStream) -> Self {
        let witness = Witness::default();
        Self { socket, witness }
    }

    /// Its witness.
    pub fn witness(&self) -> Witness {
        self.witness.clone()
    }

    fn note_write(&self, result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Ready(Ok(_)) => self.witness.wrote(),
            Poll::Ready(Err(error)) => self.witness.failed(|| error.kind() == io::ErrorKind::BrokenPipe),
            Poll::Pending => {}
        }
    }

    fn is_first_write(&self) -> bool {
        self.witness.0.load(Relaxed) == NOTHING
    }
}

impl AsyncRead for Witnessed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let (before, room) = (buf.filled().len(), buf.remaining());
        let result = Pin::new(&mut this.socket).poll_read(cx, buf);
        match &result {
            Poll::Ready(Ok(())) if buf.filled().len() == before && room > 0 => {
                let socket = SockRef::from(&this.socket);
                let is_reset = || matches!(socket.take_error(), Ok(Some(e)) if e.kind() == io::ErrorKind::BrokenPipe);
                this.witness.failed(is_reset);
            }
            Poll::Ready(Err(error)) => this.witness.failed(|| error.kind() == io::ErrorKind::BrokenPipe),
            _ => {}
        }
        result
    }
}

impl AsyncWrite for Witnessed {
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

    /// A watched request of `length` bytes, written (as far as it goes) by `write` with the server at hand; whether it is
    /// proven to be unread.
    async fn is_unread(write: impl AsyncFnOnce(&mut Witnessed, std::net::TcpStream)) -> bool {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let socket = TcpStream::connect(addr).await.expect("it listens");
        let mut near = Witnessed::new(socket);
        let (mut far, _) = listener.accept().expect("a connection");
        // An earlier exchange.
        near.write_all(b"first").await.expect("open");
        far.read_exact(&mut [0; 5]).expect("written");
        far.write_all(b"done").expect("open");
        near.read_exact(&mut [0; 4]).await.expect("an answer");
        let witness = near.witness();
        witness.watch();
        write(&mut near, far).await;
        let _ = near.read(&mut [0; 1]).await;
        witness.is_unread()
    }

    #[tokio::test]
    async fn a_request_that_crosses_the_close_is_proven_unread() {
        let crossed = async |near: &mut Witnessed, far: std::net::TcpStream| {
            drop(far);
            near.write_all(b"request").await.expect("the system takes it");
        };
        assert!(is_unread(crossed).await);
        let large = async |near: &mut Witnessed, far: std::net::TcpStream| {
            drop(far);
            let error = near.write_all(&[0; LARGE]).await.expect_err("refused");
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        };
        assert!(is_unread(large).await);
    }

    #[tokio::test]
    async fn what_may_have_been_read_is_not() {
        let read = async |near: &mut Witnessed, mut far: std::net::TcpStream| {
            near.write_all(b"request").await.expect("open");
            far.read_exact(&mut [0; 7]).expect("written");
        };
        assert!(!is_unread(read).await, "read, then closed");
        let unread = async |near: &mut Witnessed, _far: std::net::TcpStream| {
            near.write_all(b"request").await.expect("open");
        };
        assert!(!is_unread(unread).await, "it was there to be read");
        let begun = async |near: &mut Witnessed, mut far: std::net::TcpStream| {
            near.write_all(&[0; SEGMENT]).await.expect("open");
            far.read_exact(&mut [0; SEGMENT]).expect("written");
            drop(far);
            near.write_all(&[0; SEGMENT]).await.expect("the system takes it");
        };
        assert!(!is_unread(begun).await, "its beginning was read");
    }
}
