//! Limits single reads of an HTTP/1 connection, and notes the bytes that its peer does not take. hyper gives a
//! connection a buffer as large as its largest read, up to 512 KiB, which it keeps while idle: a pool whose connections
//! have each carried one large response would hold megabytes. The length of a message head is not limited here.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use proxy_model::limits::{HTTP1_READ_BYTES, HTTP1_SHORT_READ_BYTES};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf, Take};

use crate::budget::{self, LargeBuffer};

/// Bytes of the buffer of a connection that reads much: the largest read, and as much in use.
const LARGE: usize = 2 * HTTP1_READ_BYTES.value as usize;

/// `io` read in pieces of limited size.
#[derive(Debug)]
pub(crate) struct BoundedReads<I> {
    io: Take<I>,
    blocked: BlockedBytes,
    /// Present once a read was not short.
    large: Option<LargeBuffer>,
}

/// Bytes that wait for the peer to read. An upgraded connection must be able to move between threads, hence the atomic.
#[derive(Clone, Debug, Default)]
pub(crate) struct BlockedBytes(Arc<AtomicUsize>);

impl BlockedBytes {
    pub(crate) fn get(&self) -> usize {
        self.0.load(Relaxed)
    }

    /// Bytes held because of those that wait: the connection that they come from has a further piece in its buffer, and
    /// one on its way.
    pub(crate) fn held(&self) -> usize {
        let blocked = self.get();
        blocked + 2 * blocked.min(HTTP1_READ_BYTES.value as usize)
    }

    fn note(&self, written: &Poll<io::Result<usize>>, wanted: impl FnOnce() -> usize) {
        let blocked = if written.is_pending() { wanted() } else { 0 };
        self.0.store(blocked, Relaxed);
    }
}

impl<I: AsyncRead> BoundedReads<I> {
    pub(crate) fn new(io: I) -> Self {
        Self {
            io: io.take(HTTP1_READ_BYTES.value),
            blocked: BlockedBytes::default(),
            large: None,
        }
    }

    pub(crate) fn blocked(&self) -> BlockedBytes {
        self.blocked.clone()
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for BoundedReads<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let may_be_large = self.large.is_some() || LargeBuffer::has_room(LARGE);
        let limit = if may_be_large && !budget::is_tight() {
            HTTP1_READ_BYTES
        } else {
            HTTP1_SHORT_READ_BYTES
        };
        self.io.set_limit(limit.value);
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if self.large.is_none() && (buf.filled().len() - before) as u64 > HTTP1_SHORT_READ_BYTES.value {
            self.large = Some(LargeBuffer::new(LARGE));
        }
        read
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for BoundedReads<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(self.io.get_mut()).poll_write(cx, buf);
        self.blocked.note(&written, || buf.len());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(self.io.get_mut()).poll_write_vectored(cx, bufs);
        self.blocked.note(&written, || bufs.iter().map(|buf| buf.len()).sum());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.io.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.io.get_mut()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http_body_util::BodyExt as _;
    use tokio::{
        io::AsyncWriteExt as _,
        task::{LocalSet, spawn_local},
    };

    use crate::{Body, client};

    use super::*;

    #[tokio::test]
    async fn large_responses_are_read_in_bounded_pieces() {
        const LENGTH: usize = 4 << 20;
        let test = async {
            let (ours, mut application) = tokio::io::duplex(1 << 20);
            let mut client = client::http1(ours).await.expect("a connection");
            spawn_local(async move {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n");
                application.write_all(head.as_bytes()).await.expect("taken");
                application.write_all(&vec![7; LENGTH]).await.expect("taken");
            });
            let mut request = Request::new(Body::default());
            let mut body = client.send(&mut request).await.expect("an answer").into_body();
            let (mut length, mut largest) = (0, 0);
            while let Some(frame) = body.frame().await {
                let data = frame.expect("whole").into_data().expect("data");
                length += data.len();
                largest = largest.max(data.len() as u64);
            }
            assert_eq!(length, LENGTH);
            assert!(largest <= HTTP1_READ_BYTES.value, "{largest} bytes at once");
            assert!(largest > HTTP1_READ_BYTES.value / 2, "{largest} bytes at once");
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn connections_with_large_buffers_are_few() {
        const BUDGET: usize = 9 * LARGE;
        budget::set(BUDGET, proxy_metrics::Metrics::default().recorder());
        let read = async || {
            let (near, mut far) = tokio::io::duplex(LARGE);
            far.write_all(&vec![7; LARGE]).await.expect("room");
            let mut io = BoundedReads::new(near);
            let length = io.read(&mut vec![0; LARGE]).await.expect("open");
            (io, length as u64)
        };
        let mut connections = Vec::new();
        for _ in 0..20 {
            connections.push(read().await);
        }
        let lengths: Vec<_> = connections.iter().map(|(_, length)| *length).collect();
        assert_eq!(lengths[..3], [HTTP1_READ_BYTES.value; 3]);
        assert_eq!(lengths[3..], [HTTP1_SHORT_READ_BYTES.value; 17]);
        connections.swap_remove(0);
        assert_eq!(read().await.1, HTTP1_READ_BYTES.value);
    }
}
