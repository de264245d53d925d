//! Shared parts of the HTTP/2 client and server: bodies in streams, PINGs, and waking.

pub(crate) mod body_sender;
pub(crate) mod keep_alive;
pub(crate) mod overhead;
pub(crate) mod receive;
pub(crate) mod waker;

use std::task::{Context, Poll};

use proxy_transport::Corked;
use tokio::io::AsyncWrite;

/// Flushes what a run of the connection wrote, unless the run ended it; a failed flush ends the connection too.
pub(crate) fn uncork<I: AsyncWrite + Unpin, E>(
    ended: Poll<Result<(), E>>,
    cx: &mut Context<'_>,
    io: &Corked<I>,
) -> Poll<Result<(), E>> {
    if ended.is_ready() {
        return ended;
    }
    match io.poll_uncork(cx) {
        Poll::Ready(Err(error)) => {
            tracing::debug!(%error, "HTTP/2 connection failed");
            Poll::Ready(Ok(()))
        }
        // The rest is sent when the peer accepts more: that wakes the task.
        _ => Poll::Pending,
    }
}
