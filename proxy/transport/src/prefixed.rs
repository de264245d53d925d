//! Stream whose first bytes have already been read for inspection.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Yields `prefix` first, then what `io` reads; writes go to `io`.
#[derive(Debug)]
pub struct PrefixedIo<I> {
    prefix: Bytes,
    io: I,
}

impl<I> PrefixedIo<I> {
    /// Prepends `prefix` to `io`.
    pub fn new(prefix: impl Into<Bytes>, io: I) -> Self {
        Self {
            prefix: prefix.into(),
            io,
        }
    }

    /// Wraps `io` without a prefix.
    pub fn plain(io: I) -> Self {
        Self {
            prefix: Bytes::new(),
            io,
        }
    }

    /// Bytes read earlier and not yet returned.
    pub fn prefix(&self) -> &Bytes {
        &self.prefix
    }

    /// Returns the underlying stream.
    pub fn get_ref(&self) -> &I {
        &self.io
    }

    /// Splits into the bytes not yet returned and the underlying stream.
    pub fn into_parts(self) -> (Bytes, I) {
        (self.prefix, self.io)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for PrefixedIo<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let len = self.prefix.len().min(buf.remaining());
        buf.put_slice(&self.prefix[..len]);
        self.prefix.advance(len);
        if self.prefix.is_empty() {
            self.prefix = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

macro_rules! with {
    ($wrapper:expr, $io:ident => $call:expr) => {{
        let PrefixedIo { io: $io, .. } = $wrapper;
        $call
    }};
}

crate::delegate_write!(impl<I> PrefixedIo<I> where {I: AsyncWrite + Unpin}, with);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn prefix_is_read_first_and_once() {
        let (near, mut far) = tokio::io::duplex(64);
        far.write_all(b" world").await.expect("open");
        let mut io = PrefixedIo::new(&b"hello"[..], near);
        let mut first = [0; 3];
        io.read_exact(&mut first).await.expect("the prefix");
        assert_eq!((&first, &io.prefix()[..]), (b"hel", &b"lo"[..]));
        io.write_all(b"back").await.expect("open");
        far.shutdown().await.expect("open");
        let mut rest = String::new();
        io.read_to_string(&mut rest).await.expect("text");
        assert_eq!(rest, "lo world");
        let mut back = [0; 4];
        far.read_exact(&mut back).await.expect("written through");
        assert_eq!(&back, b"back");
    }
}
