//! Refusals by limits: counted each, logged at a limited rate.

use std::{cell::Cell, net::SocketAddr, time::Instant};

use proxy_core::log_quota::LogQuota;
use proxy_metrics::Recorder;
use proxy_model::limits::{self, Limit};

thread_local! {
    /// One log for all connections of a worker.
    static LOG: Cell<LogQuota> = Cell::default();
}

/// Counts and logs that a limit ended or restricted the connection of `peer`.
#[cold]
pub(crate) fn refused<T>(metrics: &Recorder, limit: Limit<T>, peer: Option<SocketAddr>) {
    let name = limit.name;
    metrics.limit_refused(limit);
    // An idle connection is ordinary.
    if name == limits::HTTP_IDLE.name {
        return;
    }
    let most = limits::DENIALS_LOGGED.value;
    let Some(suppressed) = LOG.with(|log| LogQuota::admit_shared(log, most, Instant::now())) else {
        return;
    };
    let peer = peer.map(tracing::field::display);
    tracing::info!(limit = name, peer, suppressed, "HTTP connection reached a limit");
}
