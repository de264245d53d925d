//! What the server counts.

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

use crate::streams::{StreamRow, Streams};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rpc {
    rpc: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RpcCode {
    rpc: &'static str,
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

type Counters<L> = Family<L, Counter<u64, AtomicU64>>;
type Gauges<L> = Family<L, Gauge<i64, AtomicI64>>;

/// Handles to the metrics; clones count into the same ones.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

#[derive(Default)]
struct Inner {
    streams: Streams,
    open: Gauges<Rpc>,
    opened: Counters<Rpc>,
    oldest: Gauges<Rpc>,
    messages: Counters<Rpc>,
    last_message: Gauges<Rpc>,
    refused: Counters<RpcCode>,
    views: Gauges<Kind>,
    objects: Gauge<i64, AtomicI64>,
    problems: Gauge<i64, AtomicI64>,
    updates: Counter<u64, AtomicU64>,
    manifests_refused: Counter<u64, AtomicU64>,
    registry: Registry,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut inner = Inner::default();
        let mut registry = Registry::default();
        registry.register(names::STREAMS, "Streams that are open", inner.open.clone());
        registry.register(names::STREAMS_OPENED, "Streams that were opened", inner.opened.clone());
        let oldest = "Age of the oldest open stream";
        registry.register(names::STREAM_OLDEST_AGE_SECONDS, oldest, inner.oldest.clone());
        registry.register(names::MESSAGES, "Messages that were sent", inner.messages.clone());
        let last = "When the last message was sent";
        registry.register(names::LAST_MESSAGE_TIMESTAMP_SECONDS, last, inner.last_message.clone());
        registry.register(names::REFUSED, "Calls that were refused", inner.refused.clone());
        registry.register(names::VIEWS, "Distinct answers that are kept", inner.views.clone());
        registry.register(names::OBJECTS, "Objects that are known", inner.objects.clone());
        registry.register(
            names::PROBLEMS,
            "Things wrong with objects, as the log says",
            inner.problems.clone(),
        );
        registry.register(names::UPDATES, "Updates of objects", inner.updates.clone());
        let refused = "Manifests, or parts of them, that were refused";
        registry.register(names::MANIFESTS_REFUSED, refused, inner.manifests_refused.clone());
        inner.registry = registry;
        Self(Arc::new(inner))
    }
}

impl Metrics {
    pub(crate) fn streams(&self) -> &Streams {
        &self.0.streams
    }

    /// The streams that are open.
    pub fn rows(&self) -> Vec<StreamRow> {
        self.0.streams.rows()
    }

    pub(crate) fn opened(&self, rpc: &'static str) {
        self.0.open.get_or_create(&Rpc { rpc }).inc();
        self.0.opened.get_or_create(&Rpc { rpc }).inc();
    }

    pub(crate) fn closed(&self, rpc: &'static str) {
        self.0.open.get_or_create(&Rpc { rpc }).dec();
    }

    pub(crate) fn sent(&self, rpc: &'static str) {
        self.0.messages.get_or_create(&Rpc { rpc }).inc();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |now| now.as_secs() as i64);
        self.0.last_message.get_or_create(&Rpc { rpc }).set(now);
    }

    pub(crate) fn refused(&self, rpc: &'static str, status: &Status) {
        self.0
            .refused
            .get_or_create(&RpcCode {
                rpc,
                code: format!("{:?}", status.code()),
            })
            .inc();
    }

    /// The source said something new.
    pub fn updated(&self) {
        self.0.updates.inc();
    }

    /// So many manifests, or parts of them, were refused.
    pub fn manifests_refused(&self, number: usize) {
        self.0.manifests_refused.inc_by(number as u64);
    }

    /// So many things are wrong with objects now.
    pub fn problems(&self, number: usize) {
        self.0.problems.set(number as i64);
    }

    /// All of them in Prometheus' text format.
    pub fn render(&self, counts: Counts) -> String {
        let view = |kind: &'static str, number: usize| {
            self.0.views.get_or_create(&Kind { kind }).set(number as i64);
        };
        view("endpoints", counts.endpoints);
        view("profile", counts.profiles);
        view("outbound", counts.outbound);
        view("inbound", counts.inbound);
        self.0.objects.set(counts.objects as i64);
        self.0.oldest.clear();
        for (rpc, age) in self.0.streams.oldest() {
            self.0.oldest.get_or_create(&Rpc { rpc }).set(age as i64);
        }
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.0.registry);
        text
    }
}
