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

use crate::{
    call::Rpc as Call,
    streams::{StreamRow, Streams},
};

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
struct Outcome {
    outcome: &'static str,
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

/// What is counted of one call; looked up once, not with each message.
struct OfCall {
    open: Gauge<i64, AtomicI64>,
    opened: Counter<u64, AtomicU64>,
    messages: Counter<u64, AtomicU64>,
    last_message: Gauge<i64, AtomicI64>,
}

struct Inner {
    streams: Streams,
    calls: [OfCall; Call::ALL.len()],
    oldest: Gauges<Rpc>,
    encoded: Counter<u64, AtomicU64>,
    forgotten: Counter<u64, AtomicU64>,
    refused: Counters<RpcCode>,
    views: Gauges<Kind>,
    objects: Gauge<i64, AtomicI64>,
    problems: Gauge<i64, AtomicI64>,
    updates: Counter<u64, AtomicU64>,
    manifests_refused: Counter<u64, AtomicU64>,
    statuses: Counters<Outcome>,
    statuses_waiting: Gauge<i64, AtomicI64>,
    registry: Registry,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let (open, opened, messages, last) = (
            Gauges::<Rpc>::default(),
            Counters::<Rpc>::default(),
            Counters::<Rpc>::default(),
            Gauges::<Rpc>::default(),
        );
        registry.register(names::STREAMS, "Streams that are open", open.clone());
        registry.register(names::STREAMS_OPENED, "Streams that were opened", opened.clone());
        registry.register(names::MESSAGES, "Messages that were sent", messages.clone());
        let help = "When the last message was sent";
        registry.register(names::LAST_MESSAGE_TIMESTAMP_SECONDS, help, last.clone());
        let calls = Call::ALL.map(|call| {
            let rpc = Rpc { rpc: call.as_str() };
            OfCall {
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
        let encoded = "Messages that were encoded; the others were shared";
        registry.register(names::ENCODED, encoded, self.encoded.clone());
        let forgotten = "Times that all shared messages were forgotten, because there were too many";
        registry.register(names::SHARED_FORGOTTEN, forgotten, self.forgotten.clone());
        registry.register(names::REFUSED, "Calls that were refused", self.refused.clone());
        registry.register(names::VIEWS, "Distinct answers that are kept", self.views.clone());
        registry.register(names::OBJECTS, "Objects that are known", self.objects.clone());
        registry.register(
            names::PROBLEMS,
            "Things wrong with objects, as the log says",
            self.problems.clone(),
        );
        registry.register(names::UPDATES, "Updates of objects", self.updates.clone());
        let refused = "Manifests, or parts of them, that were refused";
        registry.register(names::MANIFESTS_REFUSED, refused, self.manifests_refused.clone());
        registry.register(
            names::STATUSES,
            "Statuses of objects, by what came of them",
            self.statuses.clone(),
        );
        let waiting = "Statuses that are to be written";
        registry.register(names::STATUSES_WAITING, waiting, self.statuses_waiting.clone());
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

    fn call(&self, rpc: Call) -> &OfCall {
        &self.0.calls[rpc as usize]
    }

    pub(crate) fn opened(&self, rpc: Call) {
        self.call(rpc).open.inc();
        self.call(rpc).opened.inc();
    }

    pub(crate) fn closed(&self, rpc: Call) {
        self.call(rpc).open.dec();
    }

    pub(crate) fn sent(&self, rpc: Call, messages: u32) {
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

    pub(crate) fn refused(&self, rpc: Call, status: &Status) {
        let (rpc, code) = (rpc.as_str(), format!("{:?}", status.code()));
        self.0.refused.get_or_create(&RpcCode { rpc, code }).inc();
    }

    /// The source said something new.
    pub fn updated(&self) {
        self.0.updates.inc();
    }

    /// So many manifests, or parts of them, were refused.
    pub fn manifests_refused(&self, number: usize) {
        self.0.manifests_refused.inc_by(number as u64);
    }

    /// A status was written, was as it should be, or could not be written.
    pub fn status_written(&self, outcome: &'static str) {
        self.0.statuses.get_or_create(&Outcome { outcome }).inc();
    }

    /// So many statuses are to be written.
    pub fn statuses_waiting(&self, number: usize) {
        self.0.statuses_waiting.set(number as i64);
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
