//! Serves `Destination`, `OutboundPolicies` and `InboundServerPolicies` from the index.
//!
//! ```text
//! [serve] connections ─▶ [call] looks up ─▶ [body] of a response ─▶ [stream] follows ─▶ [cache] of encoded messages
//! ```
//! A stream follows one watch channel of the index: it sends the current state, then each later one (or the
//! difference to the one before). A slow reader gets the latest state when it reads again, at no cost to others. Each
//! distinct message is encoded once for all streams that need it, so that a stream costs little more than its HTTP/2
//! state.
//!
//! Bodies are written by hand, on hyper: tonic's generated server would encode each message for each stream.

mod body;
mod cache;
mod call;
mod guard;
mod message;
mod metrics;
mod rpc;
mod serve;
mod stream;
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

    /// Connections of one listener; a thousand nodes with a few each. More wait in the listener's backlog.
    pub const CONNECTIONS: usize = 10_000;
    /// Streams of one connection. A sidecar multiplexes the streams of many proxies over one connection.
    pub const STREAMS_PER_CONNECTION: u32 = 100_000;
    /// Bytes of a request's headers; a path and a few names.
    pub const HEADER_BYTES: u32 = 16 * 1024;
    /// Endpoints of one message; about 300 bytes each, and a client accepts 4 MiB.
    pub const ENDPOINTS_PER_MESSAGE: usize = 1_000;
    /// Bytes of a request; many times a token and a name.
    pub const REQUEST_BYTES: usize = 64 * 1024;
    /// Encoded messages of one kind that are kept for reuse; all are dropped when exceeded.
    pub const SHARED_MESSAGES: usize = 4_096;
    /// Time for which an unused message is kept; after an outage, streams come back within seconds.
    pub const SHARED_FOR: Duration = Duration::from_secs(5);
}

/// Services over one index.
#[derive(Clone)]
pub struct Service {
    index: Arc<Mutex<Index>>,
    metrics: Metrics,
    caches: call::MessageCaches,
    stop: CancellationToken,
}

impl Service {
    /// Makes services that end their streams after `stop`.
    pub fn new(index: Arc<Mutex<Index>>, metrics: Metrics, stop: CancellationToken) -> Self {
        Self {
            index,
            metrics,
            caches: call::MessageCaches::default(),
            stop,
        }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        lock(&self.index)
    }
}

/// Locks the index, even if poisoned: its maps are consistent between changes.
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
