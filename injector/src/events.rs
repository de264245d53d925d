//! Events: what became of a pod, told of its owner where `kubectl describe` shows it. A review never waits for one: they
//! queue, and what finds no room is dropped and counted.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use destination_source::cluster::{self, Client, Note, ObjectReference, Weight};
use serde_json::Value;
use tokio::{sync::mpsc, time::sleep};

use crate::{
    cluster::{Cluster, Controller},
    metrics::Metrics,
};

/// Events that wait: the pods of a large rollout.
const WAITING_MAX: usize = 512;
/// Time from a review to its Event, in which the watch learns of a ReplicaSet that is as new as its pod.
const DELAY: Duration = Duration::from_millis(500);
/// Time in which the same thing is told once, however many pods an owner makes.
const REPEATED: Duration = Duration::from_secs(60);
/// What was told and is remembered; when it is full, it is forgotten and a few things are told twice.
const REMEMBERED_MAX: usize = 4096;
/// Time for one: a cluster that does not answer has other worries.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What became of a pod.
#[derive(Clone, Debug)]
pub(crate) struct Happened {
    pub(crate) namespace: String,
    /// What controls the pod, or the pod itself.
    pub(crate) object: Controller,
    /// The hash of the pod's template, by which a Deployment's ReplicaSet is known before we know it.
    pub(crate) hash: Option<String>,
    pub(crate) reason: &'static str,
    pub(crate) text: String,
    at: Instant,
}

impl Happened {
    pub(crate) fn new(namespace: &str, object: Controller, told: (&'static str, String)) -> Self {
        Self {
            namespace: namespace.to_owned(),
            object,
            hash: None,
            reason: told.0,
            text: told.1,
            at: Instant::now(),
        }
    }

    /// With the hash of its template, if `pod` has one.
    pub(crate) fn of(self, pod: &Value) -> Self {
        let hash = crate::cluster::template_hash(pod).map(str::to_owned);
        Self { hash, ..self }
    }
}

/// Where reviews leave what happened. Without a cluster they leave it nowhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct Events(Option<mpsc::Sender<Happened>>);

impl Events {
    /// A queue, and who reads it.
    pub(crate) fn queue() -> (Self, mpsc::Receiver<Happened>) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        (Self(Some(sender)), receiver)
    }

    /// Leaves it in the queue, if there is room.
    pub(crate) fn tell(&self, happened: Happened, metrics: &Metrics) {
        if let Some(queue) = &self.0
            && queue.try_send(happened).is_err()
        {
            metrics.event("dropped");
        }
    }
}

/// Tells the cluster, one after the other.
pub(crate) async fn run(mut queue: mpsc::Receiver<Happened>, client: Client, cluster: Cluster, metrics: Metrics) {
    let mut remembered = Remembered::default();
    while let Some(happened) = queue.recv().await {
        sleep(DELAY.saturating_sub(happened.at.elapsed())).await;
        let owner = cluster.owner(&happened.namespace, &happened.object, happened.hash.as_deref());
        // A guess has no uid, and people would not see it: then what we know for sure.
        let object = if owner.uid.is_empty() {
            happened.object.clone()
        } else {
            owner
        };
        if !remembered.is_new(&object, &happened, Instant::now()) {
            metrics.event("repeated");
            continue;
        }
        let note = note(object, &happened);
        let told = tokio::time::timeout(TIMEOUT, cluster::event(&client, &note)).await;
        match told {
            Ok(Ok(())) => metrics.event("told"),
            Ok(Err(error)) => {
                metrics.event("failed");
                tracing::debug!(%error, "an Event was not told");
            }
            Err(_) => metrics.event("failed"),
        }
    }
}

fn note(object: Controller, happened: &Happened) -> Note<'_> {
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    Note {
        of: ObjectReference {
            api_version: some(object.api_version),
            kind: some(object.kind),
            name: some(object.name),
            uid: some(object.uid),
            namespace: Some(happened.namespace.clone()),
            ..ObjectReference::default()
        },
        weight: if happened.reason == SKIPPED {
            Weight::Warning
        } else {
            Weight::Normal
        },
        reason: happened.reason,
        text: &happened.text,
        by: "linkerd-proxy-injector",
    }
}

/// Linkerd's own words.
pub(crate) const INJECTED: &str = "Injected";
pub(crate) const SKIPPED: &str = "InjectionSkipped";

/// What was told a short while ago.
#[derive(Debug, Default)]
struct Remembered(HashMap<(String, String, String), Instant>);

impl Remembered {
    fn is_new(&mut self, object: &Controller, happened: &Happened, now: Instant) -> bool {
        let key = (
            format!("{}/{}/{}/{}", happened.namespace, object.kind, object.name, object.uid),
            happened.reason.to_owned(),
            happened.text.clone(),
        );
        if self
            .0
            .get(&key)
            .is_some_and(|told| now.duration_since(*told) < REPEATED)
        {
            return false;
        }
        if self.0.len() >= REMEMBERED_MAX {
            self.0.retain(|_, told| now.duration_since(*told) < REPEATED);
        }
        if self.0.len() >= REMEMBERED_MAX {
            self.0.clear();
        }
        self.0.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happened(name: &str) -> Happened {
        let object = Controller {
            kind: "Deployment".to_owned(),
            name: name.to_owned(),
            uid: "u".to_owned(),
            ..Controller::default()
        };
        Happened::new("a", object, (INJECTED, "text".to_owned()))
    }

    #[test]
    fn the_same_is_told_once_a_minute_and_memory_is_bounded() {
        let mut remembered = Remembered::default();
        let now = Instant::now();
        let mut is_new = |name: &str, at| remembered.is_new(&happened(name).object, &happened(name), at);
        assert!(is_new("web", now) && !is_new("web", now + REPEATED / 2) && is_new("db", now));
        assert!(is_new("web", now + REPEATED));
        for i in 0..2 * REMEMBERED_MAX {
            is_new(&i.to_string(), now);
        }
        assert!(remembered.0.len() <= REMEMBERED_MAX);
    }

    #[test]
    fn what_finds_no_room_is_counted_and_nobody_waits() {
        let metrics = Metrics::new();
        let (events, queue) = Events::queue();
        for _ in 0..WAITING_MAX + 3 {
            events.tell(happened("web"), &metrics);
        }
        assert_eq!(queue.len(), WAITING_MAX);
        let text = metrics.render();
        assert!(
            text.contains("mesh_injector_events_total{result=\"dropped\"} 3"),
            "{text}"
        );
        Events::default().tell(happened("web"), &metrics);
    }
}
