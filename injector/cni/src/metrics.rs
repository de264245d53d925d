//! Metrics of the installer and of repairs.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use proxy_metrics::programs::cni as names;

/// Buckets of the latency of the API server, upstream's.
const SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

type Count = Counter<u64, AtomicU64>;

/// Handles to the metrics; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    looks: Family<Look, Count>,
    configurations: Gauge,
    configurations_refused: Gauge,
    /// Pods dropped because the queue was full.
    pub(crate) queue_overflow: Count,
    /// Pods left alone because no controller would recreate them.
    pub(crate) pods_left: Count,
    /// Deletions of pods.
    pub(crate) deletions: Calls,
    /// Events.
    pub(crate) events: Calls,
    registry: Arc<Registry>,
}

/// Counters of one kind of call.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    done: Count,
    errors: Count,
    timeouts: Count,
    seconds: Histogram,
}

/// Outcome of a call.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum CallOutcome {
    Done,
    Failed,
    TimedOut,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Look {
    result: &'static str,
}

impl Calls {
    fn new() -> Self {
        Self {
            done: Count::default(),
            errors: Count::default(),
            timeouts: Count::default(),
            seconds: Histogram::new(SECONDS),
        }
    }

    /// Counts a finished call.
    pub(crate) fn ended(&self, outcome: CallOutcome, took: Duration) {
        match outcome {
            CallOutcome::Done => {
                self.done.inc();
                self.seconds.observe(took.as_secs_f64());
            }
            CallOutcome::Failed => {
                self.errors.inc();
            }
            CallOutcome::TimedOut => {
                self.timeouts.inc();
            }
        }
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            looks: Family::default(),
            configurations: Gauge::default(),
            configurations_refused: Gauge::default(),
            queue_overflow: Count::default(),
            pods_left: Count::default(),
            deletions: Calls::new(),
            events: Calls::new(),
            registry: Arc::default(),
        };
        metrics.registry = Arc::new(metrics.register());
        metrics
    }

    fn register(&self) -> Registry {
        let mut registry = Registry::default();
        let (deletions, events) = (&self.deletions, &self.events);
        registry.register(names::LOOKS, "Reconciliations of the node's files", self.looks.clone());
        for (name, help, count) in [
            (
                names::QUEUE_OVERFLOW,
                "Pods dropped because the queue was full",
                &self.queue_overflow,
            ),
            (
                names::PODS_LEFT,
                "Pods left alone because no controller would recreate them",
                &self.pods_left,
            ),
            (names::PODS_DELETED, "Pods deleted", &deletions.done),
            (names::PODS_DELETE_ERRORS, "Failed deletions", &deletions.errors),
            (
                names::PODS_DELETE_TIMEOUT,
                "Deletions that timed out",
                &deletions.timeouts,
            ),
            (names::EVENTS_PUBLISH_ERRORS, "Failed Events", &events.errors),
            (
                names::EVENTS_PUBLISH_TIMEOUTS,
                "Events that timed out",
                &events.timeouts,
            ),
        ] {
            registry.register(name, help, count.clone());
        }
        for (name, help, gauge) in [
            (
                names::CONFIGURATIONS,
                "Configurations with the plugin",
                &self.configurations,
            ),
            (
                names::CONFIGURATIONS_REFUSED,
                "Ignored configurations",
                &self.configurations_refused,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
        for (name, help, seconds) in [
            (
                names::PODS_DELETE_LATENCY_SECONDS,
                "Time to delete a pod",
                &deletions.seconds,
            ),
            (
                names::EVENTS_PUBLISH_LATENCY_SECONDS,
                "Time to publish an Event",
                &events.seconds,
            ),
        ] {
            registry.register(name, help, seconds.clone());
        }
        registry
    }

    /// Counts a reconciliation: `in_place`, `changed` or `failed`.
    pub(crate) fn looked(&self, result: &'static str) {
        self.looks.get_or_create(&Look { result }).inc();
    }

    /// Sets the numbers of joined and ignored configurations.
    pub(crate) fn configurations(&self, joined: usize, refused: usize) {
        self.configurations.set(joined as i64);
        self.configurations_refused.set(refused as i64);
    }

    /// Renders the metrics in Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_upstreams_names() {
        let metrics = Metrics::new();
        metrics.deletions.ended(CallOutcome::Done, Duration::from_millis(3));
        metrics.events.ended(CallOutcome::TimedOut, Duration::ZERO);
        metrics.queue_overflow.inc();
        metrics.looked("changed");
        metrics.configurations(2, 1);
        let page = metrics.render();
        for line in [
            "linkerd_cni_repair_controller_pods_deleted_total 1",
            "linkerd_cni_repair_controller_pods_delete_latency_seconds_count 1",
            "linkerd_cni_repair_controller_events_publish_timeouts_total 1",
            "linkerd_cni_repair_controller_queue_overflow_total 1",
            "mesh_cni_looks_total{result=\"changed\"} 1",
            "mesh_cni_configurations 2",
        ] {
            assert!(page.contains(line), "{line} in {page}");
        }
    }
}
