//! PINGs to a peer that may have gone without a word.

use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use h2::{Ping, PingPong};
use proxy_transport::timers;

/// Time for an answer where nothing else is said; hyper's figure.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

/// When PINGs are sent.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Pings {
    /// Time between them.
    pub(crate) interval: Duration,
    /// Time for the answer.
    pub(crate) timeout: Duration,
}

/// Sends PINGs whenever the time has come and `is_wanted`; ends when one was not answered in time. To be polled with the
/// connection.
pub(crate) fn unanswered(
    pings: Pings,
    mut ping_pong: PingPong,
    is_wanted: impl Fn() -> bool + 'static,
) -> LocalBoxFuture<'static, ()> {
    Box::pin(async move {
        loop {
            timers::sleep(pings.interval).await;
            if !is_wanted() {
                continue;
            }
            match timers::timeout(pings.timeout, ping_pong.ping(Ping::opaque())).await {
                Ok(Ok(_)) => {}
                // The connection says itself that it has ended.
                Ok(Err(_)) => return std::future::pending().await,
                Err(_) => {
                    tracing::debug!(timeout = ?pings.timeout, "an HTTP/2 peer did not answer a PING");
                    return;
                }
            }
        }
    })
}
