//! The policy of a port as it is now: read for each request, without a lock as long as nothing changed.

use std::sync::Arc;

use proxy_metrics::ServerLabels;
use proxy_model::ServerPolicy;
use tokio::sync::watch;

/// The newest policy of a port.
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

    /// The newest one. Costs an atomic load unless it changed.
    pub(crate) fn current(&mut self) -> &Arc<ServerPolicy> {
        if self.updates.has_changed().unwrap_or(false) {
            self.current = self.updates.borrow_and_update().clone();
        }
        &self.current
    }

    /// A second watch on the same port, that has seen what this one has.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<ServerPolicy>> {
        self.updates.clone()
    }
}

/// Labels of the Server that a policy came from.
pub(crate) fn server_labels(policy: &ServerPolicy, port: u16) -> ServerLabels<'_> {
    let label = |name| policy.labels.get(name).map_or("", String::as_str);
    ServerLabels {
        group: label("group"),
        kind: label("kind"),
        name: label("name"),
        port,
    }
}
