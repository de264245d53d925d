//! Current policy of a port: read for each request, without a lock unless it changed.

use std::sync::Arc;

use proxy_model::ServerPolicy;
use tokio::sync::watch;

/// Current policy of a port.
#[derive(Debug)]
pub(crate) struct CurrentPolicy {
    updates: watch::Receiver<Arc<ServerPolicy>>,
    current: Arc<ServerPolicy>,
}

impl CurrentPolicy {
    pub(crate) fn new(mut updates: watch::Receiver<Arc<ServerPolicy>>) -> Self {
        let current = updates.borrow_and_update().clone();
        Self { updates, current }
    }

    /// Returns the current policy. Costs an atomic load unless it changed.
    pub(crate) fn current(&mut self) -> &Arc<ServerPolicy> {
        if self.updates.has_changed().unwrap_or(false) {
            self.current = self.updates.borrow_and_update().clone();
        }
        &self.current
    }

    /// Returns another watch on the same port, which has seen what this one has.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<ServerPolicy>> {
        self.updates.clone()
    }
}
