//! Serves `Destination`, `OutboundPolicies` and `InboundServerPolicies` from the index.
//!
//! ```text
//! [serve] connections ─▶ [clients] admit ─▶ [call] looks up ─▶ [body] of a response ─▶ [stream] follows
//!                                                                                              └─▶ [cache] of messages
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
mod clients;
mod guard;
pub mod limits;
mod message;
mod metrics;
mod rpc;
mod serve;
mod stream;
mod streams;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use destination_index::{Index, Refused};
use proxy_model::limits::{Limit, Value};
use tokio_util::sync::CancellationToken;
use tonic::Status;

pub use clients::ClientLimits;
use clients::Clients;
pub use metrics::Metrics;
pub use streams::StreamRow;

/// Services over one index.
#[derive(Clone)]
pub struct Service {
    index: Arc<Mutex<Index>>,
    metrics: Metrics,
    caches: call::MessageCaches,
    clients: Clients,
    refused: Arc<dyn Fn(Limit<Value>) + Send + Sync>,
    stop: CancellationToken,
}

impl Service {
    /// Makes services that end their streams after `stop`.
    pub fn new(index: Arc<Mutex<Index>>, metrics: Metrics, stop: CancellationToken) -> Self {
        Self {
            index,
            metrics,
            caches: call::MessageCaches::default(),
            clients: Clients::default(),
            refused: Arc::new(|_| {}),
            stop,
        }
    }

    /// Sets other limits of clients.
    #[must_use]
    pub fn with_client_limits(self, limits: ClientLimits) -> Self {
        let clients = Clients::new(limits);
        Self { clients, ..self }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        lock(&self.index)
    }

    /// Returns the status of a refused lookup; counts it if a limit is the reason.
    fn status(&self, refused: Refused) -> Status {
        let message = refused.to_string();
        match refused {
            Refused::Invalid(_) => Status::invalid_argument(message),
            Refused::NotFound(_) => Status::not_found(message),
            Refused::Unknown(_) => Status::unknown(message),
            Refused::TooMany(limit) => {
                (self.refused)(limit.row());
                Status::resource_exhausted(message)
            }
        }
    }
}

/// Locks the index, even if poisoned: its maps are consistent between changes.
pub fn lock(index: &Mutex<Index>) -> MutexGuard<'_, Index> {
    index.lock().unwrap_or_else(PoisonError::into_inner)
}

fn invalid(error: proxy_api::Error) -> Status {
    Status::invalid_argument(error.to_string())
}

#[cfg(test)]
mod tests;
