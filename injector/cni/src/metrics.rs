//! What the installer and the repairs count.

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

/// Bounds of the time for a call to the API server, Linkerd's own.
const SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

type Count = Counter<u64, AtomicU64>;

/// Handles to the metrics; clones count into the same ones.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    looks: Family<Look, Count>,
    configurations: Gauge,
    configurations_refused: Gauge,
    /// Pods that found no room in the queue.
    pub(crate) queue_overflow: Count,
    /// Pods that nobody would make again.
    pub(crate) pods_left: Count,
    /// Deletions of pods.
    pub(crate) deletions: Calls,
    /// Events.
    pub(crate) events: Calls,
    registry: Arc<Registry>,
}

/// Calls of one kind.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    done: Count,
    errors: Count,
    timeouts: Count,
    seconds: Histogram,
}

/// What came of a call.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Came {
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

    /// A call ended.
    pub(crate) fn ended(&self, came: Came, took: Duration) {
        match came {
            Came::Done => {
                self.done.inc();
                self.seconds.observe(took.as_secs_f64());
            }
            Came::Failed => {
                self.errors.inc();
            }
            Came::TimedOut => {
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
        registry.register(names::LOOKS, "Looks at the node's files", self.looks.clone());
        for (name, help, count) in [
            (
                names::QUEUE_OVERFLOW,
                "Pods that found no room in the queue",
                &self.queue_overflow,
            ),
            (names::PODS_LEFT, "Pods that nobody would make again", &self.pods_left),
            (names::PODS_DELETED, "Pods that were deleted", &deletions.done),
            (names::PODS_DELETE_ERRORS, "Deletions that failed", &deletions.errors),
            (
                names::PODS_DELETE_TIMEOUT,
                "Deletions that took too long",
                &deletions.timeouts,
            ),
            (names::EVENTS_PUBLISH_ERRORS, "Events that failed", &events.errors),
            (
                names::EVENTS_PUBLISH_TIMEOUTS,
                "Events that took too long",
                &events.timeouts,
            ),
        ] {
            registry.register(name, help, count.clone());
        }
        for (name, help, gauge) in [
            (
                names::CONFIGURATIONS,
                "Configurations that have our plugin",
                &self.configurations,
            ),
            (
                names::CONFIGURATIONS_REFUSED,
                "Configurations that are left alone",
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

    /// A look at the node's files found all `in_place`, `changed` something, or `failed`.
    pub(crate) fn looked(&self, result: &'static str) {
        self.looks.get_or_create(&Look { result }).inc();
    }

    /// How many configurations have our plugin, and how many are left alone.
    pub(crate) fn configurations(&self, joined: usize, refused: usize) {
        self.configurations.set(joined as i64);
        self.configurations_refused.set(refused as i64);
    }

    /// All of them in Prometheus' text format.
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
    fn linkerds_names_are_on_the_page() {
        let metrics = Metrics::new();
        metrics.deletions.ended(Came::Done, Duration::from_millis(3));
        metrics.events.ended(Came::TimedOut, Duration::ZERO);
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
