//! Serves `Destination`, `OutboundPolicies` and `InboundServerPolicies` from the index.
//!
//! A stream follows one watch channel of the index: it sends what holds now, then each later state (or the difference to
//! the one before). A burst of changes is one message; a slow reader gets the latest state when it reads again, and costs
//! nobody else anything.

mod destination;
mod follow;
mod metrics;
mod policy;
mod streams;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use destination_index::{Index, Refused};
use linkerd2_proxy_api::{
    destination::destination_server::DestinationServer,
    inbound::inbound_server_policies_server::InboundServerPoliciesServer,
    outbound::outbound_policies_server::OutboundPoliciesServer,
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

pub use metrics::Metrics;
pub use streams::StreamRow;

/// Limits of the server, each with its reason.
pub mod limits {
    use std::time::Duration;

    /// Streams of one connection. A sidecar carries the streams of many proxies over one connection.
    pub const STREAMS_PER_CONNECTION: u32 = 100_000;
    /// Time in which changes are gathered into one message.
    pub const GATHER: Duration = Duration::from_millis(3);
    /// Endpoints of one message; some 300 bytes each, and a client takes 4 MiB.
    pub const ENDPOINTS_PER_MESSAGE: usize = 1_000;
    /// Bytes of a request; a token and a name fit many times.
    pub const REQUEST_BYTES: usize = 64 * 1024;
}

/// The services, over one index.
#[derive(Clone)]
pub struct Service {
    index: Arc<Mutex<Index>>,
    metrics: Metrics,
    stop: CancellationToken,
}

impl Service {
    /// Services that end their streams after `stop`.
    pub fn new(index: Arc<Mutex<Index>>, metrics: Metrics, stop: CancellationToken) -> Self {
        Self { index, metrics, stop }
    }

    /// `Destination`.
    pub fn destination(
        &self,
    ) -> DestinationServer<impl linkerd2_proxy_api::destination::destination_server::Destination> {
        DestinationServer::new(self.clone()).max_decoding_message_size(limits::REQUEST_BYTES)
    }

    /// `OutboundPolicies`.
    pub fn outbound_policies(
        &self,
    ) -> OutboundPoliciesServer<impl linkerd2_proxy_api::outbound::outbound_policies_server::OutboundPolicies> {
        OutboundPoliciesServer::new(self.clone()).max_decoding_message_size(limits::REQUEST_BYTES)
    }

    /// `InboundServerPolicies`.
    pub fn inbound_policies(
        &self,
    ) -> InboundServerPoliciesServer<
        impl linkerd2_proxy_api::inbound::inbound_server_policies_server::InboundServerPolicies,
    > {
        InboundServerPoliciesServer::new(self.clone()).max_decoding_message_size(limits::REQUEST_BYTES)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        lock(&self.index)
    }

    fn refuse(&self, rpc: &'static str, status: Status) -> Status {
        self.metrics.refused(rpc, &status);
        status
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
