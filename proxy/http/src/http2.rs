//! What clients and servers of HTTP/2 have in common: bodies on their way through streams, PINGs, and waking.

pub(crate) mod gate;
pub(crate) mod keep_alive;
pub(crate) mod pump;
pub(crate) mod receive;

use std::task::{Context, Poll};

use proxy_transport::Corked;
use tokio::io::AsyncWrite;

/// Sends what a run of a connection has written; ready if that fails, and with it the connection.
pub(crate) fn poll_uncork<I: AsyncWrite + Unpin>(cx: &mut Context<'_>, io: &Corked<I>) -> Poll<()> {
    match io.poll_uncork(cx) {
        Poll::Ready(Err(error)) => {
            tracing::debug!(%error, "an HTTP/2 connection broke");
            Poll::Ready(())
        }
        // What the peer does not take now goes when it does: that wakes the task.
        _ => Poll::Pending,
    }
}
