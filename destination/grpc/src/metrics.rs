//! Metrics of the server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use destination_index::Counts;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use proxy_metrics::programs::destination as names;
use tonic::Status;

use crate::{
    rpc::Rpc,
    streams::{StreamRow, Streams},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RpcLabel {
    rpc: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RpcCodeLabels {
    rpc: &'static str,
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

type Counters<L> = Family<L, Counter<u64, AtomicU64>>;
type Gauges<L> = Family<L, Gauge<i64, AtomicI64>>;

/// Handles to the metrics, shared by clones.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

/// Metrics of one call, looked up once instead of with each message.
struct CallMetrics {
    open: Gauge<i64, AtomicI64>,
    opened: Counter<u64, AtomicU64>,
    messages: Counter<u64, AtomicU64>,
    last_message: Gauge<i64, AtomicI64>,
}

struct Inner {
    streams: Streams,
    calls: [CallMetrics; Rpc::ALL.len()],
    oldest: Gauges<RpcLabel>,
    encoded: Counter<u64, AtomicU64>,
    forgotten: Counter<u64, AtomicU64>,
    refused: Counters<RpcCodeLabels>,
    views: Gauges<KindLabel>,
    objects: Gauge<i64, AtomicI64>,
    problems: Gauge<i64, AtomicI64>,
    updates: Counter<u64, AtomicU64>,
    manifests_refused: Counter<u64, AtomicU64>,
    statuses: Counters<OutcomeLabel>,
    statuses_waiting: Gauge<i64, AtomicI64>,
    registry: Registry,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let (open, opened, messages, last) = (
            Gauges::<RpcLabel>::default(),
            Counters::<RpcLabel>::default(),
            Counters::<RpcLabel>::default(),
            Gauges::<RpcLabel>::default(),
        );
        registry.register(names::STREAMS, "Open streams", open.clone());
        registry.register(names::STREAMS_OPENED, "Streams opened", opened.clone());
        registry.register(names::MESSAGES, "Messages sent", messages.clone());
        let help = "Time of the last message";
        registry.register(names::LAST_MESSAGE_TIMESTAMP_SECONDS, help, last.clone());
        let calls = Rpc::ALL.map(|rpc| {
            let rpc = RpcLabel { rpc: rpc.as_str() };
            CallMetrics {
                open: open.get_or_create_owned(&rpc),
                opened: opened.get_or_create_owned(&rpc),
                messages: messages.get_or_create_owned(&rpc),
                last_message: last.get_or_create_owned(&rpc),
            }
        });
        let mut inner = Inner {
            streams: Streams::default(),
            calls,
            oldest: Family::default(),
            encoded: Counter::default(),
            forgotten: Counter::default(),
            refused: Family::default(),
            views: Family::default(),
            objects: Gauge::default(),
            problems: Gauge::default(),
            updates: Counter::default(),
            manifests_refused: Counter::default(),
            statuses: Family::default(),
            statuses_waiting: Gauge::default(),
            registry: Registry::default(),
        };
        inner.register(&mut registry);
        inner.registry = registry;
        Self(Arc::new(inner))
    }
}

impl Inner {
    fn register(&self, registry: &mut Registry) {
        let oldest = "Age of the oldest open stream";
        registry.register(names::STREAM_OLDEST_AGE_SECONDS, oldest, self.oldest.clone());
        let encoded = "Messages encoded; all others were reused";
        registry.register(names::ENCODED, encoded, self.encoded.clone());
        let forgotten = "Times the message cache was cleared at its limit";
        registry.register(names::SHARED_FORGOTTEN, forgotten, self.forgotten.clone());
        registry.register(names::REFUSED, "Calls refused", self.refused.clone());
        registry.register(names::VIEWS, "Distinct lookups with an answer", self.views.clone());
        registry.register(names::OBJECTS, "Known objects", self.objects.clone());
        registry.register(names::PROBLEMS, "Problems of objects, as logged", self.problems.clone());
        registry.register(names::UPDATES, "Updates of objects", self.updates.clone());
        let refused = "Manifests, or parts of them, rejected";
        registry.register(names::MANIFESTS_REFUSED, refused, self.manifests_refused.clone());
        registry.register(
            names::STATUSES,
            "Statuses of objects, by outcome",
            self.statuses.clone(),
        );
        let waiting = "Statuses waiting to be written";
        registry.register(names::STATUSES_WAITING, waiting, self.statuses_waiting.clone());
    }
}

impl Metrics {
    pub(crate) fn streams(&self) -> &Streams {
        &self.0.streams
    }

    /// Returns the open streams.
    pub fn rows(&self) -> Vec<StreamRow> {
        self.0.streams.rows()
    }

    fn call(&self, rpc: Rpc) -> &CallMetrics {
        &self.0.calls[rpc as usize]
    }

    pub(crate) fn opened(&self, rpc: Rpc) {
        self.call(rpc).open.inc();
        self.call(rpc).opened.inc();
    }

    pub(crate) fn closed(&self, rpc: Rpc) {
        self.call(rpc).open.dec();
    }

    pub(crate) fn sent(&self, rpc: Rpc, messages: u32) {
        self.call(rpc).messages.inc_by(u64::from(messages));
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |now| now.as_secs() as i64);
        self.call(rpc).last_message.set(now);
    }

    pub(crate) fn encoded(&self) {
        self.0.encoded.inc();
    }

    pub(crate) fn forgotten(&self) {
        self.0.forgotten.inc();
    }

    pub(crate) fn refused(&self, rpc: Rpc, status: &Status) {
        let (rpc, code) = (rpc.as_str(), format!("{:?}", status.code()));
        self.0.refused.get_or_create(&RpcCodeLabels { rpc, code }).inc();
    }

    /// Counts an update of the source.
    pub fn updated(&self) {
        self.0.updates.inc();
    }

    /// Counts rejected manifests, or parts of them.
    pub fn manifests_refused(&self, number: usize) {
        self.0.manifests_refused.inc_by(number as u64);
    }

    /// Counts a status by outcome: written, unchanged or failed.
    pub fn status_written(&self, outcome: &'static str) {
        self.0.statuses.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Sets the number of statuses waiting to be written.
    pub fn statuses_waiting(&self, number: usize) {
        self.0.statuses_waiting.set(number as i64);
    }

    /// Sets the number of current problems.
    pub fn problems(&self, number: usize) {
        self.0.problems.set(number as i64);
    }

    /// Encodes all metrics in Prometheus' text format.
    pub fn render(&self, counts: Counts) -> String {
        let view = |kind: &'static str, number: usize| {
            self.0.views.get_or_create(&KindLabel { kind }).set(number as i64);
        };
        view("endpoints", counts.endpoints);
        view("profile", counts.profiles);
        view("outbound", counts.outbound);
        view("inbound", counts.inbound);
        self.0.objects.set(counts.objects as i64);
        self.0.oldest.clear();
        for (rpc, age) in self.0.streams.oldest() {
            self.0.oldest.get_or_create(&RpcLabel { rpc }).set(age as i64);
        }
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.0.registry);
        text
    }
}
