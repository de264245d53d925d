//! Successes, failures, rate and latencies of a row.

use crate::quantile::Buckets;

/// Figures of one row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    successes: f64,
    failures: f64,
    rate: f64,
    latency: Buckets,
}

impl Figures {
    /// Adds the increase of a counter over the time that the scrapes of a pod cover.
    pub(crate) fn count(&mut self, gained: f64, failed: bool, covered_ms: u64) {
        let count = if failed {
            &mut self.failures
        } else {
            &mut self.successes
        };
        *count += gained;
        if covered_ms > 0 {
            self.rate += gained * 1000.0 / covered_ms as f64;
        }
    }

    /// Adds the increase of a bucket.
    pub(crate) fn latency(&mut self, bound_ms: f64, gained: f64) {
        self.latency.add(bound_ms, gained);
    }

    fn requests(&self) -> f64 {
        self.successes + self.failures
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.requests() <= 0.0
    }

    pub(crate) fn success(&self) -> Option<f64> {
        (!self.is_idle()).then(|| self.successes / self.requests())
    }

    pub(crate) fn rps(&self) -> Option<f64> {
        (!self.is_idle()).then_some(self.rate)
    }

    /// Percentiles 50, 95 and 99, in milliseconds.
    pub(crate) fn latencies(&self) -> [Option<u64>; 3] {
        [0.5, 0.95, 0.99].map(|q| self.latency.quantile(q).map(|ms| ms.round() as u64))
    }
}
