//! Metrics of mesh-injector.

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

/// Namespaces with a label of their own; further ones share an empty label, so that a cluster with a namespace per
/// branch does not exhaust memory.
const NAMESPACES_MAX: usize = 1_000;
/// Buckets of the review time: 0.1 ms to 0.1 s.
const SECONDS: [f64; 10] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1];

type Count<L> = Family<L, Counter<u64, AtomicU64>>;

/// Handles to the metrics; clones share them.
#[derive(Clone)]
pub(crate) struct Metrics {
    requests: Count<Request>,
    responses: Count<Response>,
    refused: Count<Refusal>,
    reloads_refused: Count<Reload>,
    events: Count<EventResult>,
    validations: Count<Validation>,
    unnamed: Counter<u64, AtomicU64>,
    seconds: Histogram,
    namespaces: Arc<Mutex<HashSet<String>>>,
    registry: Arc<Registry>,
}

/// Labels of a review.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Request {
    pub(crate) owner_kind: &'static str,
    pub(crate) namespace: String,
    pub(crate) annotation_at: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Response {
    owner_kind: &'static str,
    namespace: String,
    annotation_at: &'static str,
    skip: &'static str,
    skip_reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refusal {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventResult {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Validation {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reload {
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
        registry.register(names::REQUESTS, "Reviews received", metrics.requests.clone());
        registry.register(names::RESPONSES, "Reviews answered", metrics.responses.clone());
        registry.register(
            names::REFUSED,
            "Reviews rejected or not answered",
            metrics.refused.clone(),
        );
        registry.register(
            names::RELOADS_REFUSED,
            "Invalid reloads",
            metrics.reloads_refused.clone(),
        );
        registry.register(names::EVENTS, "Events by result", metrics.events.clone());
        let validations = metrics.validations.clone();
        registry.register(names::VALIDATIONS, "Objects validated", validations);
        registry.register(
            names::NAMESPACES_UNNAMED,
            "Reviews of namespaces without a label of their own",
            metrics.unnamed.clone(),
        );
        registry.register(names::REVIEW_SECONDS, "Time for one review", metrics.seconds.clone());
        metrics.registry = Arc::new(registry);
        metrics
    }

    /// Counts an answered review, with the reasons if it was skipped.
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

    /// Counts a rejected or unanswered review.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Refusal { reason }).inc();
    }

    /// Counts an Event by its result.
    pub(crate) fn event(&self, result: &'static str) {
        self.events.get_or_create(&EventResult { result }).inc();
    }

    /// Counts a validated object: `allowed`, `warned` or `refused`.
    pub(crate) fn validated(&self, kind: &'static str, result: &'static str) {
        self.validations.get_or_create(&Validation { kind, result }).inc();
    }

    /// Counts an invalid reload.
    pub(crate) fn reload_refused(&self, what: &'static str) {
        self.reloads_refused.get_or_create(&Reload { what }).inc();
    }

    /// Observes the time of a review.
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

    /// Renders the metrics in Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}
