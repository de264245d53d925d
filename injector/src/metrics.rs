//! What mesh-injector counts.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use proxy_metrics::programs::injector as names;

/// Namespaces that are named in labels; what is in more is counted under one empty name, so that a cluster with a namespace per
/// branch does not fill our memory.
const NAMESPACES_MAX: usize = 1_000;
/// Bounds of the time for a review: a tenth of a millisecond to a tenth of a second.
const SECONDS: [f64; 10] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1];

type Count<L> = Family<L, Counter<u64, AtomicU64>>;

/// Handles to the metrics; clones count into the same ones.
#[derive(Clone)]
pub(crate) struct Metrics {
    requests: Count<Request>,
    responses: Count<Response>,
    refused: Count<Reason>,
    reloads_refused: Count<What>,
    events: Count<Told>,
    validations: Count<Validated>,
    unnamed: Counter<u64, AtomicU64>,
    seconds: Histogram,
    namespaces: Arc<Mutex<HashSet<String>>>,
    registry: Arc<Registry>,
}

/// What a review is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Request {
    pub(crate) owner_kind: String,
    pub(crate) namespace: String,
    pub(crate) annotation_at: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Response {
    owner_kind: String,
    namespace: String,
    annotation_at: &'static str,
    skip: &'static str,
    skip_reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Told {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Validated {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct What {
    what: &'static str,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let mut metrics = Self {
            requests: Count::default(),
            responses: Count::default(),
            refused: Count::default(),
            reloads_refused: Count::default(),
            events: Count::default(),
            validations: Count::default(),
            unnamed: Counter::default(),
            seconds: Histogram::new(SECONDS),
            namespaces: Arc::default(),
            registry: Arc::default(),
        };
        registry.register(names::REQUESTS, "Reviews that came in", metrics.requests.clone());
        registry.register(
            names::RESPONSES,
            "Reviews that were answered",
            metrics.responses.clone(),
        );
        registry.register(
            names::REFUSED,
            "Reviews without an answer, or refused",
            metrics.refused.clone(),
        );
        registry.register(
            names::RELOADS_REFUSED,
            "New files that were refused",
            metrics.reloads_refused.clone(),
        );
        registry.register(names::EVENTS, "Events, and what became of them", metrics.events.clone());
        let validations = metrics.validations.clone();
        registry.register(names::VALIDATIONS, "Objects that were validated", validations);
        registry.register(
            names::NAMESPACES_UNNAMED,
            "Reviews of unnamed namespaces",
            metrics.unnamed.clone(),
        );
        registry.register(names::REVIEW_SECONDS, "Time for one review", metrics.seconds.clone());
        metrics.registry = Arc::new(registry);
        metrics
    }

    /// A review came in, and was answered; with why it was skipped, if it was.
    pub(crate) fn answered(&self, mut request: Request, skipped: Option<String>) {
        request.namespace = self.named(request.namespace);
        self.requests.get_or_create(&request).inc();
        let Request {
            owner_kind,
            namespace,
            annotation_at,
        } = request;
        let skip = if skipped.is_some() { "true" } else { "false" };
        let skip_reason = skipped.unwrap_or_default();
        let response = Response {
            owner_kind,
            namespace,
            annotation_at,
            skip,
            skip_reason,
        };
        self.responses.get_or_create(&response).inc();
    }

    /// A review was refused, or could not be answered.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    /// What became of an Event.
    pub(crate) fn event(&self, result: &'static str) {
        self.events.get_or_create(&Told { result }).inc();
    }

    /// An object of a kind was validated: `allowed`, `warned` or `refused`.
    pub(crate) fn validated(&self, kind: &'static str, result: &'static str) {
        self.validations.get_or_create(&Validated { kind, result }).inc();
    }

    /// New files were refused.
    pub(crate) fn reload_refused(&self, what: &'static str) {
        self.reloads_refused.get_or_create(&What { what }).inc();
    }

    /// A review took so long.
    pub(crate) fn took(&self, time: Duration) {
        self.seconds.observe(time.as_secs_f64());
    }

    fn named(&self, namespace: String) -> String {
        let mut known = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(&namespace) {
            return namespace;
        }
        if known.len() >= NAMESPACES_MAX {
            self.unnamed.inc();
            return String::new();
        }
        known.insert(namespace.clone());
        namespace
    }

    /// All of them in Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}
