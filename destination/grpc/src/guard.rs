//! Guard of one open stream, which counts its messages and its end.

use std::sync::Arc;

use crate::{clients::Share, metrics::Metrics, rpc::Rpc, streams::OpenStream};

/// Open stream; dropping it closes the stream in table and metrics.
pub(crate) struct StreamGuard {
    id: u64,
    open: Arc<OpenStream>,
    metrics: Metrics,
    _share: Share,
}

impl StreamGuard {
    pub(crate) fn new(metrics: &Metrics, rpc: Rpc, target: String, client: &str, share: Share) -> Self {
        let (id, open) = metrics.streams().add(rpc, target, client);
        metrics.opened(rpc);
        Self {
            id,
            open,
            metrics: metrics.clone(),
            _share: share,
        }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Counts messages that are sent.
    pub(crate) fn sent(&self, messages: u32) {
        self.open.sent(messages);
        self.metrics.sent(self.open.rpc, messages);
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.metrics.streams().remove(self.id);
        self.metrics.closed(self.open.rpc);
    }
}
