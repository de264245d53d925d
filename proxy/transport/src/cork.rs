//! Holds back writes until the writer is done, so that they leave in fewer system calls.
//!
//! h2 flushes after every DATA frame. While a connection is corked, its writes may stay in the connection below, up to
//! that one's limit, and a flush does nothing; the caller that corks it flushes it afterwards.

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

/// Returns true while the running writer will flush by itself when it has finished, so that its writes may wait.
pub fn is_corked() -> bool {
    CORKED.get()
}

/// Runs a closure that writes to one connection only; the caller flushes that connection afterwards.
pub fn corked<T>(run: impl FnOnce() -> T) -> T {
    CORKED.set(true);
    let _cork = Cork;
    run()
}

/// Connection that can be corked. Clones share the same connection.
#[derive(Debug)]
pub struct Corked<I>(Rc<Inner<I>>);

#[derive(Debug)]
struct Inner<I> {
    io: RefCell<I>,
    received: Cell<u64>,
}

impl<I> Clone for Corked<I> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Guard that corks the thread until it is dropped.
struct Cork;

impl Drop for Cork {
    fn drop(&mut self) {
        CORKED.set(false);
    }
}

impl<I: AsyncWrite + Unpin> Corked<I> {
    /// Wraps a connection; it starts uncorked.
    pub fn new(io: I) -> Self {
        Self(Rc::new(Inner {
            io: RefCell::new(io),
            received: Cell::new(0),
        }))
    }

    /// Flushes the writes that were held back.
    pub fn poll_uncork(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|io| io.poll_flush(cx))
    }

    /// Returns the number of bytes received so far.
    pub fn received(&self) -> u64 {
        self.0.received.get()
    }

    fn with<T>(&self, call: impl FnOnce(Pin<&mut I>) -> T) -> T {
        call(Pin::new(&mut *self.0.io.borrow_mut()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for Corked<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = self.with(|io| io.poll_read(cx, buf));
        let received = &self.0.received;
        received.set(received.get() + (buf.filled().len() - before) as u64);
        read
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
        self.0.io.borrow().is_write_vectored()
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
    async fn flush_is_deferred_until_uncorked() {
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
