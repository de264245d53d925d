//! Events about injected and skipped pods, recorded on their owners, where `kubectl describe` shows them. A review
//! never waits for one: they are queued, and dropped and counted when the queue is full.
//!
//! A review may be forged, so an Event is recorded only about an object that exists, and each namespace has a rate.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

use destination_source::{
    Error,
    cluster::{self, Client, Note, ObjectReference, Resource, Weight},
};
use proxy_process::rate::{Bounds, Rates};
use serde_json::Value;
use tokio::{sync::mpsc, time::sleep};

use crate::{
    cluster::{Cluster, Controller},
    limits::{EVENT_EVERY, EVENT_NAMESPACES, EVENTS_IN_A_ROW, EVENTS_QUEUED, EVENTS_REMEMBERED},
    metrics::Metrics,
};

/// Delay from a review to its Event, in which the watch delivers a ReplicaSet as new as its pod.
const DELAY: Duration = Duration::from_millis(500);
/// Interval in which equal Events are recorded once, however many pods an owner creates.
const REPEAT_INTERVAL: Duration = Duration::from_secs(60);
/// Longest text; the API server's limit.
const TEXT_BYTES_MAX: usize = 1024;
/// Timeout for recording one Event.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Event about a pod, to be recorded on its owner.
#[derive(Clone, Debug)]
pub(crate) struct InjectionEvent {
    pub(crate) namespace: String,
    /// Controller of the pod, or the pod itself.
    pub(crate) object: Controller,
    /// Template hash of the pod, which identifies a Deployment's ReplicaSet before the watch delivers it.
    pub(crate) hash: Option<String>,
    pub(crate) reason: &'static str,
    pub(crate) text: String,
    at: Instant,
}

impl InjectionEvent {
    pub(crate) fn new(namespace: &str, object: Controller, reason: &'static str, text: String) -> Self {
        let end = (0..=TEXT_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end));
        let mut text = text;
        text.truncate(end.unwrap_or_default());
        Self {
            namespace: namespace.to_owned(),
            object,
            hash: None,
            reason,
            text,
            at: Instant::now(),
        }
    }

    /// Adds the template hash of `pod`, if it has one.
    pub(crate) fn with_hash(self, pod: &Value) -> Self {
        let hash = crate::cluster::template_hash(pod).map(str::to_owned);
        Self { hash, ..self }
    }
}

/// Queue of Events; without a cluster they are discarded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Events(Option<mpsc::Sender<InjectionEvent>>);

impl Events {
    /// Returns a queue and its receiver.
    pub(crate) fn queue() -> (Self, mpsc::Receiver<InjectionEvent>) {
        let (sender, receiver) = mpsc::channel(EVENTS_QUEUED.value);
        (Self(Some(sender)), receiver)
    }

    /// Queues an Event if there is room.
    pub(crate) fn push(&self, event: InjectionEvent, metrics: &Metrics) {
        if let Some(queue) = &self.0
            && queue.try_send(event).is_err()
        {
            metrics.event("dropped");
        }
    }
}

/// Records queued Events, one after the other.
pub(crate) async fn run(mut queue: mpsc::Receiver<InjectionEvent>, client: Client, cluster: Cluster, metrics: Metrics) {
    let (mut recent, mut rates) = (EventDedup::default(), NamespaceRates::default());
    while let Some(event) = queue.recv().await {
        if !cluster.has_namespace(&event.namespace) {
            metrics.event("unknown");
            continue;
        }
        sleep(DELAY.saturating_sub(event.at.elapsed())).await;
        let owner = cluster.owner(&event.namespace, &event.object, event.hash.as_deref());
        // A guessed owner has no uid, and `kubectl describe` would not show its Events: use the known controller.
        let object = if owner.uid.is_empty() {
            event.object.clone()
        } else {
            owner
        };
        if !recent.is_new(&object, &event, Instant::now()) {
            metrics.event("repeated");
            continue;
        }
        if !rates.take(&event.namespace, Instant::now()) {
            metrics.event("limited");
            continue;
        }
        let is_known = cluster.known_owner(&event.namespace, &event.object).is_some();
        let recorded = tokio::time::timeout(TIMEOUT, async {
            if !is_known && !exists(&client, &event.namespace, &object).await? {
                return Ok("unknown");
            }
            cluster::event(&client, &note(object, &event))
                .await
                .map(|()| "recorded")
        });
        match recorded.await {
            Ok(Ok(result)) => metrics.event(result),
            Ok(Err(error)) => {
                metrics.event("failed");
                tracing::debug!(?error, "cannot record an Event");
            }
            Err(_) => metrics.event("failed"),
        }
    }
}

/// Kinds of owners whose existence the injector may check: version, kind, plural.
const CHECKED: [(&str, &str, &str); 8] = [
    ("v1", "Pod", "pods"),
    ("v1", "ReplicationController", "replicationcontrollers"),
    ("apps/v1", "Deployment", "deployments"),
    ("apps/v1", "ReplicaSet", "replicasets"),
    ("apps/v1", "StatefulSet", "statefulsets"),
    ("apps/v1", "DaemonSet", "daemonsets"),
    ("batch/v1", "Job", "jobs"),
    ("batch/v1", "CronJob", "cronjobs"),
];

/// Returns true if an object exists, with its uid where that is known.
async fn exists(client: &Client, namespace: &str, object: &Controller) -> Result<bool, Error> {
    let is = |(version, kind, _): &&(&str, &str, &str)| *version == object.api_version && *kind == object.kind;
    let Some((version, _, plural)) = CHECKED.iter().find(is) else {
        return Ok(false);
    };
    if object.name.is_empty() {
        return Ok(false);
    }
    let found = Resource::new(version, plural)
        .within(namespace)
        .find(client, &object.name)
        .await?;
    Ok(found.is_some_and(|found| object.uid.is_empty() || found["metadata"]["uid"] == object.uid.as_str()))
}

/// Rates of the Events of namespaces.
#[derive(Debug)]
struct NamespaceRates(Rates<String>);

impl Default for NamespaceRates {
    fn default() -> Self {
        Self(Rates::new(EVENT_NAMESPACES.value))
    }
}

impl NamespaceRates {
    fn take(&mut self, namespace: &str, now: Instant) -> bool {
        const BOUNDS: Bounds = Bounds {
            row: EVENTS_IN_A_ROW.value,
            every: EVENT_EVERY.value,
        };
        self.0.get(namespace, now).is_some_and(|rate| rate.take(BOUNDS, now))
    }
}

fn note(object: Controller, event: &InjectionEvent) -> Note<'_> {
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    Note {
        of: ObjectReference {
            api_version: some(object.api_version),
            kind: some(object.kind),
            name: some(object.name),
            uid: some(object.uid),
            namespace: Some(event.namespace.clone()),
            ..ObjectReference::default()
        },
        weight: if event.reason == SKIPPED {
            Weight::Warning
        } else {
            Weight::Normal
        },
        reason: event.reason,
        text: &event.text,
        by: "linkerd-proxy-injector",
    }
}

/// Upstream's reasons of Events.
pub(crate) const INJECTED: &str = "Injected";
pub(crate) const SKIPPED: &str = "InjectionSkipped";

/// Recently recorded Events, as hashes: their texts come from clients.
#[derive(Debug, Default)]
struct EventDedup {
    seen: HashMap<u64, Instant>,
    hasher: RandomState,
}

impl EventDedup {
    fn is_new(&mut self, object: &Controller, event: &InjectionEvent, now: Instant) -> bool {
        let of_object = (&object.kind, &object.name, &object.uid);
        let key = self
            .hasher
            .hash_one((&event.namespace, of_object, event.reason, &event.text));
        let is_recent = |at: &Instant| now.duration_since(*at) < REPEAT_INTERVAL;
        if self.seen.get(&key).is_some_and(is_recent) {
            return false;
        }
        if self.seen.len() >= EVENTS_REMEMBERED.value {
            self.seen.retain(|_, at| is_recent(at));
        }
        if self.seen.len() >= EVENTS_REMEMBERED.value {
            self.seen.clear();
        }
        self.seen.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str) -> InjectionEvent {
        let object = Controller {
            kind: "Deployment".to_owned(),
            name: name.to_owned(),
            uid: "u".to_owned(),
            ..Controller::default()
        };
        InjectionEvent::new("a", object, INJECTED, "text".to_owned())
    }

    #[test]
    fn equal_events_are_recorded_once_a_minute_in_bounded_memory() {
        let mut recent = EventDedup::default();
        let now = Instant::now();
        let mut is_new = |name: &str, at| recent.is_new(&event(name).object, &event(name), at);
        assert!(is_new("web", now) && !is_new("web", now + REPEAT_INTERVAL / 2) && is_new("db", now));
        assert!(is_new("web", now + REPEAT_INTERVAL));
        for i in 0..2 * EVENTS_REMEMBERED.value {
            is_new(&i.to_string(), now);
        }
        assert!(recent.seen.len() <= EVENTS_REMEMBERED.value);
    }

    #[test]
    fn one_namespace_leaves_the_events_of_others_alone() {
        let (mut rates, now) = (NamespaceRates::default(), Instant::now());
        let taken =
            |rates: &mut NamespaceRates, namespace: &str, at| (0..1_000).filter(|_| rates.take(namespace, at)).count();
        assert_eq!(taken(&mut rates, "a", now), EVENTS_IN_A_ROW.value as usize);
        assert_eq!(taken(&mut rates, "b", now), EVENTS_IN_A_ROW.value as usize);
        assert_eq!(taken(&mut rates, "a", now + EVENT_EVERY.value), 1);
        for at in 0..EVENT_NAMESPACES.value * 2 {
            rates.take(&at.to_string(), now);
        }
        assert!(rates.0.count() <= EVENT_NAMESPACES.value);
        assert!(rates.take("c", now + Duration::from_secs(3600)));
    }

    #[test]
    fn cuts_texts_that_clients_make_long() {
        let event = InjectionEvent::new("a", Controller::default(), SKIPPED, "ä".repeat(TEXT_BYTES_MAX));
        assert_eq!(event.text.len(), TEXT_BYTES_MAX);
    }

    #[test]
    fn a_full_queue_drops_and_counts_without_waiting() {
        let metrics = Metrics::new();
        let (events, queue) = Events::queue();
        for _ in 0..EVENTS_QUEUED.value + 3 {
            events.push(event("web"), &metrics);
        }
        assert_eq!(queue.len(), EVENTS_QUEUED.value);
        let text = metrics.render();
        assert!(
            text.contains("mesh_injector_events_total{result=\"dropped\"} 3"),
            "{text}"
        );
        Events::default().push(event("web"), &metrics);
    }
}
