//! State of each watch, for `/metrics` and callers, with its changes logged once.

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

/// State of one watch.
#[derive(Clone, Debug, PartialEq)]
pub struct KindState {
    /// Watched kind.
    pub kind: Kind,
    /// `group/version` that is read; none while the kind is not served.
    pub version: Option<&'static str>,
    /// All objects have been listed once, or the kind is not installed.
    pub synced: bool,
    /// The watch is open.
    pub connected: bool,
    /// Last message of the API server, bookmarks included.
    pub heard: Option<Instant>,
    /// Number of objects.
    pub objects: usize,
    /// Number of complete lists.
    pub lists: u64,
    /// Number of events.
    pub events: u64,
    /// Number of failures.
    pub failures: u64,
    /// Number of rejected objects.
    pub refused: u64,
    /// Current error.
    pub error: Option<String>,
}

/// Labels a kind with its group, as `kubectl` does, which distinguishes the two HTTPRoutes.
fn labels(state: &KindState) -> Labels {
    let kind = match state.kind.group() {
        "" => state.kind.as_str().to_owned(),
        group => format!("{}.{group}", state.kind),
    };
    Labels { kind }
}

impl KindState {
    /// Returns the time since the last message of the API server.
    pub fn age(&self) -> Option<Duration> {
        self.heard.map(|heard| heard.elapsed())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    kind: String,
}

/// States of all watches of a reader. Cheap to clone.
#[derive(Clone, Debug)]
pub struct States(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    kinds: Vec<KindState>,
    /// Start of the current outage of the API server.
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

    /// Returns the state of each watch, in the order of the selections.
    pub fn kinds(&self) -> Vec<KindState> {
        self.lock().kinds.clone()
    }

    /// Returns true once all kinds have been listed.
    pub fn is_synced(&self) -> bool {
        self.lock().kinds.iter().all(|kind| kind.synced)
    }

    /// Returns the duration of the current outage of the API server.
    pub fn away(&self) -> Option<Duration> {
        self.lock().away.map(|since| since.elapsed())
    }

    /// Encodes the states in Prometheus' text format.
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
        gauge(names::OBJECTS, "Known objects", |s| s.objects as i64);
        gauge(names::SYNCED, "1 if all objects have been listed once", |s| {
            s.synced.into()
        });
        gauge(names::CONNECTED, "1 if the watch is open", |s| s.connected.into());
        let age = "Time since the last message of the API server";
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
        counter(names::REFUSED, "Objects rejected", |s| s.refused);
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
        text
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a message of the API server about a watch.
    pub(super) fn answered(&self, watch: usize, change: impl FnOnce(&mut KindState)) {
        let mut inner = self.lock();
        if let Some(since) = inner.away.take() {
            tracing::info!(after = ?since.elapsed(), "API server is reachable again");
        }
        let kind = &mut inner.kinds[watch];
        if let Some(error) = kind.error.take() {
            tracing::info!(kind = %kind.kind, "resolved: {error}");
        }
        kind.heard = Some(Instant::now());
        kind.connected = true;
        change(kind);
    }

    /// Records that the kind is not installed.
    pub(super) fn absent(&self, watch: usize) {
        self.answered(watch, |kind| {
            if kind.version.is_some() || !kind.synced {
                let group = kind.kind.group();
                tracing::info!(
                    "{} ({group}) is not installed on the cluster; waiting for it",
                    kind.kind
                );
            }
            kind.version = None;
            kind.synced = true;
            kind.objects = 0;
        });
    }

    /// Records a failure. An unreachable API server concerns all watches and is logged once.
    pub(super) fn failed(&self, watch: usize, error: &Error) {
        let mut inner = self.lock();
        let text = error.to_string();
        let is_away = matches!(error, Error::Unreachable { .. });
        if is_away && inner.away.is_none() {
            inner.away = Some(Instant::now());
            tracing::warn!("{text}; keeping its last state");
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
