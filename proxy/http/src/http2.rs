//! What clients and servers of HTTP/2 have in common: bodies on their way through streams, PINGs, and waking.

pub(crate) mod gate;
pub(crate) mod keep_alive;
pub(crate) mod pump;
pub(crate) mod receive;

use std::task::{Context, Poll};

use proxy_transport::Corked;
use tokio::io::AsyncWrite;

/// Sends what a run of a connection has written, unless that ended it; if sending fails, the connection has ended too.
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
            tracing::debug!(%error, "an HTTP/2 connection broke");
            Poll::Ready(Ok(()))
        }
        // What the peer does not take now goes when it does: that wakes the task.
        _ => Poll::Pending,
    }
}
