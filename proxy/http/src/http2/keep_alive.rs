//! Keep-alive PINGs, which detect peers that vanished silently.

use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use h2::{Ping, PingPong};
use proxy_transport::timers;

/// Default time for an answer; hyper's figure.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

/// PING schedule.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Pings {
    /// Time between PINGs.
    pub(crate) interval: Duration,
    /// Time for an answer.
    pub(crate) timeout: Duration,
}

/// Sends PINGs at each interval while `is_wanted`; returns when one was not answered in time. To be polled with the
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
                // The connection reports its end itself.
                Ok(Err(_)) => return std::future::pending().await,
                Err(_) => {
                    tracing::debug!(timeout = ?pings.timeout, "HTTP/2 keep-alive timed out");
                    return;
                }
            }
        }
    })
}
