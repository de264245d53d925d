//! Metrics of mesh-viz itself.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
};

use prometheus_client::{
    encoding::text::encode_registry,
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use proxy_metrics::programs::viz as names;
use viz_api::Source;

/// Handles to the metrics; clones share them.
#[derive(Clone)]
pub(crate) struct Metrics {
    pods: Gauge<i64, AtomicI64>,
    pods_failing: Gauge<i64, AtomicI64>,
    covered_ms: Gauge<i64, AtomicI64>,
    refused: Counter<u64, AtomicU64>,
    /// Lines of taps dropped because the reader was too slow.
    pub(crate) tap_dropped: Counter<u64, AtomicU64>,
    registry: Arc<Registry>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let (pods, pods_failing, covered_ms) = (Gauge::default(), Gauge::default(), Gauge::default());
        let (refused, tap_dropped) = (Counter::default(), Counter::default());
        registry.register(names::PODS, "Pods with samples", pods.clone());
        registry.register(
            names::PODS_FAILING,
            "Pods whose last scrape failed",
            pods_failing.clone(),
        );
        registry.register(
            names::COVERED_MS,
            "Longest time that samples cover, in milliseconds",
            covered_ms.clone(),
        );
        registry.register(names::REFUSED, "Pods and series dropped by a limit", refused.clone());
        registry.register(
            names::TAP_DROPPED,
            "Lines of taps dropped because the reader was too slow",
            tap_dropped.clone(),
        );
        Self {
            pods,
            pods_failing,
            covered_ms,
            refused,
            tap_dropped,
            registry: Arc::new(registry),
        }
    }

    /// Renders the metrics with the current state of the window, without an end marker: others follow.
    pub(crate) fn render(&self, source: &Source) -> String {
        self.pods.set(source.pods as i64);
        self.pods_failing.set(source.pods_failing as i64);
        self.covered_ms.set(source.covered_ms as i64);
        self.refused.inner().store(source.refused, Relaxed);
        let mut text = String::new();
        encode_registry(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_the_window_and_dropped_lines() {
        let metrics = Metrics::new();
        metrics.tap_dropped.inc_by(3);
        let source = Source {
            pods: 2,
            refused: 5,
            ..Source::default()
        };
        let text = metrics.render(&source);
        for line in [
            "mesh_viz_scraped_pods 2",
            "mesh_viz_refused_total 5",
            "mesh_viz_tap_dropped_total 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        assert!(!text.contains("# EOF"), "{text}");
    }
}
