//! Refusals by limits: counted each, logged at a limited rate.

use std::{
    cell::Cell,
    net::SocketAddr,
    time::{Duration, Instant},
};

use proxy_metrics::Recorder;
use proxy_model::limits::{self, Limit};

const WINDOW: Duration = Duration::from_secs(1);

thread_local! {
    /// One log for all connections of a worker.
    static LOG: LogRate = const { LogRate::new() };
}

/// Rate limit of a log: lines beyond [`limits::DENIALS_LOGGED`] in a second are suppressed and counted.
#[derive(Debug, Default)]
pub struct LogRate {
    began: Cell<Option<Instant>>,
    logged: Cell<u32>,
    suppressed: Cell<u64>,
}

impl LogRate {
    const fn new() -> Self {
        Self {
            began: Cell::new(None),
            logged: Cell::new(0),
            suppressed: Cell::new(0),
        }
    }

    /// Returns the number of lines suppressed since the last logged one, if another may be logged now.
    pub fn admit(&self, now: Instant) -> Option<u64> {
        if self.began.get().is_none_or(|began| now.duration_since(began) >= WINDOW) {
            self.began.set(Some(now));
            self.logged.set(0);
        }
        if self.logged.get() >= limits::DENIALS_LOGGED.value {
            self.suppressed.set(self.suppressed.get() + 1);
            return None;
        }
        self.logged.set(self.logged.get() + 1);
        Some(self.suppressed.take())
    }
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
    let Some(suppressed) = LOG.with(|log| log.admit(Instant::now())) else {
        return;
    };
    let peer = peer.map(tracing::field::display);
    tracing::info!(limit = name, peer, suppressed, "HTTP connection reached a limit");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_the_rate_and_reports_suppressed_lines() {
        let log = LogRate::default();
        let now = Instant::now();
        for _ in 0..limits::DENIALS_LOGGED.value {
            assert_eq!(log.admit(now), Some(0));
        }
        assert_eq!((log.admit(now), log.admit(now)), (None, None));
        assert_eq!(log.admit(now + WINDOW), Some(2));
        assert_eq!(log.admit(now + WINDOW), Some(0), "reported once");
    }
}
