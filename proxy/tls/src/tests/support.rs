//! Connection that fragments reads and writes deterministically for a seed.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Passes at most `most` bytes at a time, and now and then returns `Pending` once.
pub(super) struct Choppy<I> {
    io: I,
    random: u64,
    most: usize,
}

impl<I> Choppy<I> {
    pub(super) fn new(io: I, seed: u64, most: usize) -> Self {
        let random = seed | 1;
        Self { io, random, most }
    }

    /// Returns the number of bytes that may pass now; none for `Pending`.
    fn next(&mut self, cx: &Context<'_>) -> Option<usize> {
        // xorshift
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        if self.random.is_multiple_of(5) {
            cx.waker().wake_by_ref();
            return None;
        }
        Some(1 + (self.random >> 8) as usize % self.most)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Choppy<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(most) = self.next(cx) else {
            return Poll::Pending;
        };
        let mut part = vec![0; most.min(out.remaining())];
        let mut read = ReadBuf::new(&mut part);
        let result = Pin::new(&mut self.io).poll_read(cx, &mut read);
        out.put_slice(read.filled());
        result
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Choppy<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.next(cx) {
            None => Poll::Pending,
            Some(most) => Pin::new(&mut self.io).poll_write(cx, &buf[..buf.len().min(most)]),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

pub(super) fn block_on<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime")
        .block_on(test)
}
