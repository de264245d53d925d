//! Serves `Destination`, `OutboundPolicies` and `InboundServerPolicies` from the index.
//!
//! ```text
//! [serve] connections ─▶ [call] asks the index ─▶ [follow] one stream's body ─▶ [shared] messages, encoded once
//! ```
//! A stream follows one watch channel of the index: it sends what holds now, then each later state (or the difference to
//! the one before). A slow reader gets the latest state when it reads again, and costs nobody else anything. Each distinct
//! message is encoded once for all streams that need it, so that a stream costs little more than what HTTP/2 keeps of it.

mod answer;
mod call;
mod follow;
mod message;
mod metrics;
mod serve;
mod shared;
mod streams;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use destination_index::{Index, Refused};
use tokio_util::sync::CancellationToken;
use tonic::Status;

pub use metrics::Metrics;
pub use streams::StreamRow;

/// Limits of the server, each with its reason.
pub mod limits {
    use std::time::Duration;

    /// Connections of one listener; a thousand nodes with a few each. Who finds no room waits.
    pub const CONNECTIONS: usize = 10_000;
    /// Streams of one connection. A sidecar carries the streams of many proxies over one connection.
    pub const STREAMS_PER_CONNECTION: u32 = 100_000;
    /// Bytes of a request's headers; a path and a few names.
    pub const HEADER_BYTES: u32 = 16 * 1024;
    /// Endpoints of one message; some 300 bytes each, and a client takes 4 MiB.
    pub const ENDPOINTS_PER_MESSAGE: usize = 1_000;
    /// Bytes of a request; a token and a name fit many times.
    pub const REQUEST_BYTES: usize = 64 * 1024;
    /// Messages of one kind that are kept for others that need the same; all are forgotten when there are more.
    pub const SHARED_MESSAGES: usize = 4_096;
    /// How long a message is kept that nobody needs; streams that come back after an outage come within seconds.
    pub const SHARED_FOR: Duration = Duration::from_secs(5);
}

/// The services, over one index.
#[derive(Clone)]
pub struct Service {
    index: Arc<Mutex<Index>>,
    metrics: Metrics,
    shared: call::AllShared,
    stop: CancellationToken,
}

impl Service {
    /// Services that end their streams after `stop`.
    pub fn new(index: Arc<Mutex<Index>>, metrics: Metrics, stop: CancellationToken) -> Self {
        Self {
            index,
            metrics,
            shared: call::AllShared::default(),
            stop,
        }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        lock(&self.index)
    }
}

/// The index, also after somebody panicked with it: its maps are whole between two changes.
pub fn lock(index: &Mutex<Index>) -> MutexGuard<'_, Index> {
    index.lock().unwrap_or_else(PoisonError::into_inner)
}

fn status(refused: Refused) -> Status {
    let message = refused.to_string();
    match refused {
        Refused::Invalid(_) => Status::invalid_argument(message),
        Refused::NotFound(_) => Status::not_found(message),
        Refused::Unknown(_) => Status::unknown(message),
        Refused::TooMany(_) => Status::resource_exhausted(message),
    }
}

fn invalid(error: proxy_api::Error) -> Status {
    Status::invalid_argument(error.to_string())
}

#[cfg(test)]
mod tests;
