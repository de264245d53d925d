//! Limits single reads of an HTTP/1 connection. hyper gives a connection a buffer as large as its largest read, up to
//! 512 KiB, which it keeps while idle: a pool whose connections have each carried one large response would hold
//! megabytes. The length of a message head is not limited here.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use proxy_model::limits::HTTP1_READ_BYTES;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf, Take};

/// `io` read in pieces of limited size.
#[derive(Debug)]
pub(crate) struct BoundedReads<I>(Take<I>);

impl<I: AsyncRead> BoundedReads<I> {
    pub(crate) fn new(io: I) -> Self {
        Self(io.take(HTTP1_READ_BYTES.value))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for BoundedReads<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.set_limit(HTTP1_READ_BYTES.value);
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for BoundedReads<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.0.get_mut()).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.0.get_mut()).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.0.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.0.get_mut()).poll_shutdown(cx)
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
}
