//! Repairs: a pod whose validator found that nothing is redirected started before the plugin was on its node. It is deleted, so
//! that its controller makes it anew, now through the plugin. One that started later and is no better (a kernel without
//! nftables) is tried again more and more seldom; one that nobody would make again is left. Both are told by an Event.
//!
//! ```text
//! pods of this node ─[judge]─▶ queue ─▶ once the plugin is in place: Event, deletion
//! ```

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime},
};

use destination_k8s::keys;
use destination_source::{
    Error,
    cluster::{self, Client, Filter, Note, ObjectReference, Resource, Weight},
};
use proxy_process::admin::Readiness;
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use crate::metrics::{Came, Metrics};

/// Linkerd's own word.
const REASON: &str = "LinkerdCNINotConfigured";
/// The init container that looks whether traffic is redirected, and its status if it is not.
const VALIDATOR: &str = "linkerd-network-validator";
const NOT_REDIRECTED: i64 = 95;
/// Pods that wait to be repaired: more than a node runs. One that finds no room is told again with its next crash.
const WAITING_MAX: usize = 256;
/// Pods that were dealt with and are remembered, so that each is dealt with once; when they are too many, they are forgotten.
const REMEMBERED_MAX: usize = 1024;
/// Time in which a pod is not dealt with again: it is being deleted, or it is left.
const REPEATED: Duration = Duration::from_secs(300);
/// Time after the plugin's arrival in which a pod may still have started without it: runtimes read their files a moment later,
/// and the times of pods are whole seconds.
const SLACK: Duration = Duration::from_secs(5);
/// The first and the longest time between two deletions for the same owner of pods that started with the plugin in place.
const AGAIN: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));
/// Time for a call; the next crash brings the pod again.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two looks whether the plugin is in place.
const READY_POLL: Duration = Duration::from_millis(50);

/// A pod to be repaired.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Broken {
    namespace: String,
    name: String,
    uid: String,
    /// Who makes it again.
    owner: Option<String>,
    /// When the kubelet began with it.
    started: Option<SystemTime>,
}

/// Whether and since when the plugin is in place.
#[derive(Clone, Debug)]
pub(crate) struct Installed {
    pub(crate) ready: Readiness,
    pub(crate) since: watch::Receiver<SystemTime>,
}

/// Repairs the pods of a node, for ever.
pub(crate) async fn run(client: Client, node: String, installed: Installed, metrics: Metrics) {
    let (sender, queue) = mpsc::channel(WAITING_MAX);
    let fields = format!("spec.nodeName={node}");
    let filter = Filter {
        labels: keys::CONTROL_PLANE_NS,
        fields: &fields,
    };
    let pods = Resource::new("v1", "pods");
    let overflow = metrics.clone();
    let watching = cluster::each(
        &client,
        (&pods, filter),
        |pod| enqueue(judge(&pod), &sender, &overflow),
        |error| tracing::warn!(%error, "pods that should be repaired are not known"),
    );
    tokio::join!(watching, work(&client, queue, installed, metrics));
}

/// What is wrong with a pod, if that is what we repair.
fn judge(pod: &Value) -> Option<Broken> {
    let metadata = &pod["metadata"];
    if !metadata["deletionTimestamp"].is_null() {
        return None;
    }
    let statuses = pod["status"]["initContainerStatuses"].as_array()?;
    let validator = statuses.iter().find(|status| status["name"] == VALIDATOR)?;
    let ended = |state: &str| validator[state]["terminated"]["exitCode"].as_i64();
    // The last word counts: one that succeeds in the end found its traffic redirected.
    let code = ended("state").or_else(|| ended("lastState"))?;
    let text = |key: &str| metadata[key].as_str().map(str::to_owned);
    let mut owners = metadata["ownerReferences"].as_array().into_iter().flatten();
    let owner = owners.find(|owner| owner["controller"] == true);
    let started = pod["status"]["startTime"].as_str().unwrap_or_default();
    (code == NOT_REDIRECTED).then_some(Broken {
        namespace: text("namespace")?,
        name: text("name")?,
        uid: text("uid")?,
        owner: owner.and_then(|owner| owner["uid"].as_str()).map(str::to_owned),
        started: OffsetDateTime::parse(started, &Rfc3339).ok().map(SystemTime::from),
    })
}

fn enqueue(broken: Option<Broken>, queue: &mpsc::Sender<Broken>, metrics: &Metrics) {
    if let Some(broken) = broken
        && queue.try_send(broken).is_err()
    {
        metrics.queue_overflow.inc();
    }
}

async fn work(client: &Client, mut queue: mpsc::Receiver<Broken>, installed: Installed, metrics: Metrics) {
    let (mut told, mut dealt) = (Remembered::default(), Remembered::default());
    let mut again = Again::default();
    while let Some(broken) = queue.recv().await {
        // A pod that is made anew before the plugin is there would be no better.
        while !installed.ready.is_ready() {
            tokio::time::sleep(READY_POLL).await;
        }
        let now = Instant::now();
        let late = broken
            .started
            .is_some_and(|started| started > *installed.since.borrow() + SLACK);
        let left = match &broken.owner {
            None => Some(ALONE),
            Some(owner) => (late && !again.may(owner, now)).then_some(NO_BETTER),
        };
        if let Some(text) = left {
            if told.is_new(&broken.uid, now) {
                metrics.pods_left.inc();
                tracing::warn!(namespace = broken.namespace, name = broken.name, "{text}");
                tell(client, &broken, text, &metrics).await;
            }
        } else if dealt.is_new(&broken.uid, now) {
            tell(client, &broken, DELETED, &metrics).await;
            if delete(client, &broken, &metrics).await == Came::Done {
                tracing::info!(namespace = broken.namespace, name = broken.name, "{DELETED}");
            } else {
                dealt.forget(&broken.uid);
            }
        }
    }
}

/// What people read of a pod.
const DELETED: &str = "traffic is not redirected: the pod started before the CNI plugin was on its node; it is deleted, so that its \
                       controller makes it again";
const ALONE: &str = "traffic is not redirected: the pod started before the CNI plugin was on its node; nobody would make it again, so \
                     it is left: delete it and make it again";
const NO_BETTER: &str = "traffic is not redirected although the CNI plugin is on the node: see the log of linkerd-cni there, and \
                         whether its kernel has nftables; the pod is left for now";

async fn delete(client: &Client, broken: &Broken, metrics: &Metrics) -> Came {
    let begun = Instant::now();
    let pods = Resource::new("v1", "pods").within(&broken.namespace);
    let came = match timeout(CALL_TIMEOUT, pods.delete(client, &broken.name, &broken.uid)).await {
        Ok(Ok(())) => Came::Done,
        // Somebody else did, or it is another one by now.
        Ok(Err(Error::Absent { .. } | Error::Conflict { .. })) => return Came::Done,
        Ok(Err(error)) => {
            tracing::warn!(%error, namespace = broken.namespace, name = broken.name, "a pod was not deleted");
            Came::Failed
        }
        Err(_) => Came::TimedOut,
    };
    metrics.deletions.ended(came, begun.elapsed());
    came
}

async fn tell(client: &Client, broken: &Broken, text: &str, metrics: &Metrics) {
    let note = Note {
        of: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(broken.name.clone()),
            namespace: Some(broken.namespace.clone()),
            uid: Some(broken.uid.clone()),
            ..ObjectReference::default()
        },
        weight: Weight::Warning,
        reason: REASON,
        text,
        by: "linkerd-cni-repair-controller",
    };
    let begun = Instant::now();
    let came = match timeout(CALL_TIMEOUT, cluster::event(client, &note)).await {
        Ok(Ok(())) => Came::Done,
        Ok(Err(error)) => {
            tracing::debug!(%error, "an Event was not told");
            Came::Failed
        }
        Err(_) => Came::TimedOut,
    };
    metrics.events.ended(came, begun.elapsed());
}

/// Which pods were dealt with.
#[derive(Debug, Default)]
struct Remembered(HashMap<String, Instant>);

impl Remembered {
    fn is_new(&mut self, uid: &str, now: Instant) -> bool {
        self.0.retain(|_, at| now.duration_since(*at) < REPEATED);
        if self.0.contains_key(uid) {
            return false;
        }
        if self.0.len() >= REMEMBERED_MAX {
            self.0.clear();
        }
        self.0.insert(uid.to_owned(), now);
        true
    }

    fn forget(&mut self, uid: &str) {
        self.0.remove(uid);
    }
}

/// When pods of an owner may be deleted again that were no better for it.
#[derive(Debug, Default)]
struct Again(HashMap<String, (Duration, Instant)>);

impl Again {
    fn may(&mut self, owner: &str, now: Instant) -> bool {
        let (first, longest) = AGAIN;
        let pause = match self.0.get(owner) {
            Some((_, next)) if now < *next => return false,
            Some((pause, _)) => (*pause * 2).min(longest),
            None => first,
        };
        if self.0.len() >= REMEMBERED_MAX {
            self.0.clear();
        }
        self.0.insert(owner.to_owned(), (pause, now + pause));
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: Value) -> Value {
        let owners = json!([{"kind": "ReplicaSet", "name": "web-1", "uid": "o", "controller": true}]);
        let mut status = status;
        status["name"] = VALIDATOR.into();
        json!({
            "metadata": {"namespace": "a", "name": "web-1-x", "uid": "u", "ownerReferences": owners},
            "status": {"startTime": "1970-01-01T00:01:00Z", "initContainerStatuses": [{"name": "other", "state": {"terminated": {"exitCode": 95}}}, status]},
        })
    }

    #[test]
    fn only_a_validator_that_ended_with_95_is_repaired() {
        let ended = |code: i64| json!({"terminated": {"exitCode": code}});
        let crashed = pod(json!({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended(95)}));
        let broken = judge(&crashed).expect("broken");
        assert_eq!((broken.name.as_str(), broken.owner.as_deref()), ("web-1-x", Some("o")));
        assert_eq!(broken.started, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(60)));
        assert!(
            judge(&pod(json!({"state": ended(95)}))).is_some(),
            "it crashed just now"
        );
        assert_eq!(
            judge(&pod(json!({"state": ended(0), "lastState": ended(95)}))),
            None,
            "in the end it was right"
        );
        assert_eq!(judge(&pod(json!({"state": ended(1)}))), None, "another fault");
        assert_eq!(judge(&pod(json!({"state": {"running": {}}}))), None);
        let mut going = crashed.clone();
        going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(judge(&going), None);
        let mut alone = crashed;
        alone["metadata"]["ownerReferences"] = Value::Null;
        assert_eq!(judge(&alone).expect("broken").owner, None);
    }

    #[test]
    fn the_queue_is_bounded_and_what_finds_no_room_is_counted() {
        let metrics = Metrics::new();
        let (sender, queue) = mpsc::channel(WAITING_MAX);
        let broken = judge(&pod(json!({"state": {"terminated": {"exitCode": 95}}})));
        for _ in 0..WAITING_MAX + 2 {
            enqueue(broken.clone(), &sender, &metrics);
        }
        enqueue(None, &sender, &metrics);
        assert_eq!(queue.len(), WAITING_MAX);
        assert!(metrics.render().contains("queue_overflow_total 2"));
    }

    #[test]
    fn each_pod_is_dealt_with_once_and_memory_is_bounded() {
        let mut remembered = Remembered::default();
        let now = Instant::now();
        assert!(remembered.is_new("a", now) && !remembered.is_new("a", now + REPEATED / 2));
        assert!(remembered.is_new("a", now + REPEATED));
        remembered.forget("a");
        assert!(remembered.is_new("a", now + REPEATED));
        for i in 0..2 * REMEMBERED_MAX {
            remembered.is_new(&i.to_string(), now + REPEATED);
        }
        assert!(remembered.0.len() <= REMEMBERED_MAX);
    }

    #[test]
    fn what_gets_no_better_is_tried_more_and_more_seldom() {
        let mut again = Again::default();
        let (first, longest) = AGAIN;
        let now = Instant::now();
        assert!(again.may("a", now) && !again.may("a", now + first / 2) && again.may("b", now));
        assert!(again.may("a", now + first) && !again.may("a", now + first * 2));
        let mut at = now + first;
        let mut tries = 0;
        while at < now + longest * 10 {
            tries += u32::from(again.may("a", at));
            at += Duration::from_secs(1);
        }
        assert!((10..=20).contains(&tries), "{tries}");
        for i in 0..2 * REMEMBERED_MAX {
            again.may(&i.to_string(), now);
        }
        assert!(again.0.len() <= REMEMBERED_MAX);
    }
}
