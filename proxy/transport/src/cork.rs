//! Holds back what is written until its writer has nothing more to say, so that it leaves by fewer system calls.
//!
//! h2 flushes after every frame of data. While a connection is corked its writes may wait in the connection below, up to
//! that one's limit, and a flush does nothing; who corks it flushes it afterwards.

use std::{
    cell::{Cell, RefCell},
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

thread_local! {
    static CORKED: Cell<bool> = const { Cell::new(false) };
}

/// Whether the writer that runs now says itself when it has finished: what it writes may wait.
pub fn is_corked() -> bool {
    CORKED.get()
}

/// Runs what writes to one connection, and to no other; who calls sends what waits afterwards.
pub fn corked<T>(run: impl FnOnce() -> T) -> T {
    CORKED.set(true);
    let _cork = Cork;
    run()
}

/// A connection that can be corked. Its clones are the same connection.
#[derive(Debug)]
pub struct Corked<I>(Rc<RefCell<I>>);

impl<I> Clone for Corked<I> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Until it is dropped.
struct Cork;

impl Drop for Cork {
    fn drop(&mut self) {
        CORKED.set(false);
    }
}

impl<I: AsyncWrite + Unpin> Corked<I> {
    /// A connection that is not corked yet.
    pub fn new(io: I) -> Self {
        Self(Rc::new(RefCell::new(io)))
    }

    /// Sends what waits.
    pub fn poll_uncork(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|io| io.poll_flush(cx))
    }

    fn with<T>(&self, call: impl FnOnce(Pin<&mut I>) -> T) -> T {
        call(Pin::new(&mut *self.0.borrow_mut()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for Corked<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.with(|io| io.poll_read(cx, buf))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Corked<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|io| io.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.with(|io| io.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.0.borrow().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if is_corked() {
            return Poll::Ready(Ok(()));
        }
        self.poll_uncork(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|io| io.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, BufWriter};

    use super::*;

    #[tokio::test]
    async fn a_flush_waits_until_it_is_uncorked() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut io = Corked::new(BufWriter::new(near));
        io.write_all(b"one").await.expect("room");
        corked(|| {
            assert!(is_corked());
            let mut cx = Context::from_waker(std::task::Waker::noop());
            assert!(Pin::new(&mut io).poll_flush(&mut cx).is_ready());
        });
        assert!(!is_corked());
        let mut got = [0; 3];
        let mut read = ReadBuf::new(&mut got);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut far).poll_read(&mut cx, &mut read).is_pending());
        std::future::poll_fn(|cx| io.poll_uncork(cx)).await.expect("open");
        assert!(Pin::new(&mut far).poll_read(&mut cx, &mut read).is_ready());
        assert_eq!(read.filled(), b"one");
    }
}
