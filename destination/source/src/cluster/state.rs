//! How each watch is doing, for `/metrics` and for people; and what is said of it in the log, once.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use destination_k8s::Kind;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use proxy_metrics::programs::source as names;
use tokio::time::Instant;

use super::watch::Selection;
use crate::Error;

/// How a watch is doing.
#[derive(Clone, Debug, PartialEq)]
pub struct KindState {
    /// What is watched.
    pub kind: Kind,
    /// The `group/version` that is read; none while nothing is served.
    pub version: Option<&'static str>,
    /// Whether everything was read once, or there is nothing to read.
    pub synced: bool,
    /// Whether the watch is open.
    pub connected: bool,
    /// When the API server said something last, if only that nothing changed.
    pub heard: Option<Instant>,
    /// How many objects there are.
    pub objects: usize,
    /// How often all of them were listed.
    pub lists: u64,
    /// How many events came.
    pub events: u64,
    /// How often something failed.
    pub failures: u64,
    /// How many objects were refused.
    pub refused: u64,
    /// What is wrong at the moment.
    pub error: Option<String>,
}

/// The two HTTPRoutes are told apart by their groups, as `kubectl` does it.
fn labels(state: &KindState) -> Labels {
    let kind = match state.kind.group() {
        "" => state.kind.as_str().to_owned(),
        group => format!("{}.{group}", state.kind),
    };
    Labels { kind }
}

impl KindState {
    /// How long ago the API server said something.
    pub fn age(&self) -> Option<Duration> {
        self.heard.map(|heard| heard.elapsed())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    kind: String,
}

/// How all watches of a reader are doing. Cheap to clone.
#[derive(Clone, Debug)]
pub struct States(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    kinds: Vec<KindState>,
    /// Since when the API server does not answer.
    away: Option<Instant>,
}

impl States {
    pub(super) fn new(selections: &[Selection]) -> Self {
        let state = |selection: &Selection| KindState {
            kind: selection.kind,
            version: None,
            synced: false,
            connected: false,
            heard: None,
            objects: 0,
            lists: 0,
            events: 0,
            failures: 0,
            refused: 0,
            error: None,
        };
        Self(Arc::new(Mutex::new(Inner {
            kinds: selections.iter().map(state).collect(),
            away: None,
        })))
    }

    /// How each watch is doing, in the order in which they were asked for.
    pub fn kinds(&self) -> Vec<KindState> {
        self.lock().kinds.clone()
    }

    /// Whether everything was read once.
    pub fn is_synced(&self) -> bool {
        self.lock().kinds.iter().all(|kind| kind.synced)
    }

    /// How long the API server has not answered.
    pub fn away(&self) -> Option<Duration> {
        self.lock().away.map(|since| since.elapsed())
    }

    /// All of it in Prometheus' text format.
    pub fn render(&self) -> String {
        let kinds = self.kinds();
        let mut registry = Registry::default();
        let mut gauge = |name: &str, help: &str, value: fn(&KindState) -> i64| {
            let family = Family::<Labels, Gauge>::default();
            for state in &kinds {
                family.get_or_create(&labels(state)).set(value(state));
            }
            registry.register(name, help, family);
        };
        gauge(names::OBJECTS, "Objects that are known", |s| s.objects as i64);
        gauge(names::SYNCED, "Whether everything was read once", |s| s.synced.into());
        gauge(names::CONNECTED, "Whether the watch is open", |s| s.connected.into());
        let age = "Time since the API server said something";
        gauge(names::AGE_SECONDS, age, |s| {
            s.age().map_or(-1, |age| age.as_secs() as i64)
        });
        let mut counter = |name: &str, help: &str, value: fn(&KindState) -> u64| {
            let family = Family::<Labels, Counter>::default();
            for state in &kinds {
                family.get_or_create(&labels(state)).inc_by(value(state));
            }
            registry.register(name, help, family);
        };
        counter(names::LISTS, "Lists", |s| s.lists);
        counter(names::EVENTS, "Events of watches", |s| s.events);
        counter(names::FAILURES, "Failures", |s| s.failures);
        counter(names::REFUSED, "Objects that were refused", |s| s.refused);
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
        text
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The API server said something about a watch.
    pub(super) fn answered(&self, watch: usize, change: impl FnOnce(&mut KindState)) {
        let mut inner = self.lock();
        if let Some(since) = inner.away.take() {
            tracing::info!(after = ?since.elapsed(), "the cluster answers again");
        }
        let kind = &mut inner.kinds[watch];
        if let Some(error) = kind.error.take() {
            tracing::info!(kind = %kind.kind, "no longer: {error}");
        }
        kind.heard = Some(Instant::now());
        kind.connected = true;
        change(kind);
    }

    /// The kind is not installed.
    pub(super) fn absent(&self, watch: usize) {
        self.answered(watch, |kind| {
            if kind.version.is_some() || !kind.synced {
                let group = kind.kind.group();
                tracing::info!(
                    "{} ({group}) is not installed on the cluster; it is waited for",
                    kind.kind
                );
            }
            kind.version = None;
            kind.synced = true;
            kind.objects = 0;
        });
    }

    /// Something failed. An API server that is away concerns all watches, and is said once.
    pub(super) fn failed(&self, watch: usize, error: &Error) {
        let mut inner = self.lock();
        let text = error.to_string();
        let is_away = matches!(error, Error::Unreachable { .. });
        if is_away && inner.away.is_none() {
            inner.away = Some(Instant::now());
            tracing::warn!("{text}; what it said last stays");
        }
        let kind = &mut inner.kinds[watch];
        kind.failures += 1;
        kind.connected = false;
        if !is_away && kind.error.as_ref() != Some(&text) {
            tracing::warn!(kind = %kind.kind, "{text}");
            kind.error = Some(text);
        }
    }
}
