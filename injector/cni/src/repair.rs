//! Repairs: a pod whose validator found no redirection started before the plugin was installed on its node. It is
//! deleted, so that its controller recreates it through the plugin. A pod that started later and still fails (a kernel
//! without nftables) is retried with growing pauses; a pod that no controller would recreate is left alone. Either is
//! reported by an Event.
//!
//! ```text
//! pods of this node ─[judge]─▶ queue ─▶ once the plugin is installed: Event, deletion
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

use crate::metrics::{CallOutcome, Metrics};

/// Reason of Events, upstream's.
const REASON: &str = "LinkerdCNINotConfigured";
/// Init container that checks the redirection, and its exit code if there is none.
const VALIDATOR: &str = "linkerd-network-validator";
const NOT_REDIRECTED: i64 = 95;
/// Queued pods: more than a node runs. A dropped one returns with its next crash.
const QUEUE_MAX: usize = 256;
/// Remembered pods, so that each is handled once; when full, all are forgotten.
const SEEN_MAX: usize = 1024;
/// Interval in which a pod is handled once: it is being deleted, or left alone.
const REPEAT_INTERVAL: Duration = Duration::from_secs(300);
/// Time after the installation in which a pod may still have started without the plugin: runtimes read their files a
/// moment later, and start times of pods are whole seconds.
const SLACK: Duration = Duration::from_secs(5);
/// Shortest and longest pause between deletions, for one owner, of pods that started with the plugin installed.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));
/// Timeout of a call; the next crash returns the pod.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Poll interval for the plugin's readiness.
const READY_POLL: Duration = Duration::from_millis(50);

/// Pod without redirection.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Broken {
    namespace: String,
    name: String,
    uid: String,
    /// Controller that would recreate it.
    owner: Option<String>,
    /// Start time, from the kubelet.
    started: Option<SystemTime>,
}

/// State of the installation.
#[derive(Clone, Debug)]
pub(crate) struct Installed {
    pub(crate) ready: Readiness,
    pub(crate) since: watch::Receiver<SystemTime>,
}

/// Repairs the pods of a node.
pub(crate) async fn run(client: Client, node: String, installed: Installed, metrics: Metrics) {
    let (sender, queue) = mpsc::channel(QUEUE_MAX);
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
        |error| tracing::warn!(%error, "cannot watch pods"),
    );
    tokio::join!(watching, work(&client, queue, installed, metrics));
}

/// Returns the pod if it needs a repair.
fn judge(pod: &Value) -> Option<Broken> {
    let metadata = &pod["metadata"];
    if !metadata["deletionTimestamp"].is_null() {
        return None;
    }
    let statuses = pod["status"]["initContainerStatuses"].as_array()?;
    let validator = statuses.iter().find(|status| status["name"] == VALIDATOR)?;
    let ended = |state: &str| validator[state]["terminated"]["exitCode"].as_i64();
    // The latest run counts: one that succeeds found its traffic redirected.
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
    let (mut reported, mut handled) = (SeenPods::default(), SeenPods::default());
    let mut backoff = OwnerBackoff::default();
    while let Some(broken) = queue.recv().await {
        // A pod recreated before the plugin is installed would fail again.
        while !installed.ready.is_ready() {
            tokio::time::sleep(READY_POLL).await;
        }
        let now = Instant::now();
        let late = broken
            .started
            .is_some_and(|started| started > *installed.since.borrow() + SLACK);
        let left = match &broken.owner {
            None => Some(UNCONTROLLED),
            Some(owner) => (late && !backoff.admits(owner, now)).then_some(STILL_BROKEN),
        };
        if let Some(text) = left {
            if reported.is_new(&broken.uid, now) {
                metrics.pods_left.inc();
                tracing::warn!(namespace = broken.namespace, name = broken.name, "{text}");
                record_event(client, &broken, text, &metrics).await;
            }
        } else if handled.is_new(&broken.uid, now) {
            record_event(client, &broken, DELETED, &metrics).await;
            if delete(client, &broken, &metrics).await == CallOutcome::Done {
                tracing::info!(namespace = broken.namespace, name = broken.name, "{DELETED}");
            } else {
                handled.forget(&broken.uid);
            }
        }
    }
}

/// Texts of Events.
const DELETED: &str = "traffic is not redirected: the pod started before the CNI plugin was installed on its node; deleting it, so \
                       that its controller recreates it";
const UNCONTROLLED: &str = "traffic is not redirected: the pod started before the CNI plugin was installed on its node; it has no controller, \
                            so delete and recreate it";
const STILL_BROKEN: &str = "traffic is not redirected although the CNI plugin is installed on the node: check the log of linkerd-cni there, \
                            and whether its kernel supports nftables; leaving the pod for now";

async fn delete(client: &Client, broken: &Broken, metrics: &Metrics) -> CallOutcome {
    let begun = Instant::now();
    let pods = Resource::new("v1", "pods").within(&broken.namespace);
    let outcome = match timeout(CALL_TIMEOUT, pods.delete(client, &broken.name, &broken.uid)).await {
        Ok(Ok(())) => CallOutcome::Done,
        // Already deleted or replaced.
        Ok(Err(Error::Absent { .. } | Error::Conflict { .. })) => return CallOutcome::Done,
        Ok(Err(error)) => {
            tracing::warn!(%error, namespace = broken.namespace, name = broken.name, "cannot delete a pod");
            CallOutcome::Failed
        }
        Err(_) => CallOutcome::TimedOut,
    };
    metrics.deletions.ended(outcome, begun.elapsed());
    outcome
}

async fn record_event(client: &Client, broken: &Broken, text: &str, metrics: &Metrics) {
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
    let outcome = match timeout(CALL_TIMEOUT, cluster::event(client, &note)).await {
        Ok(Ok(())) => CallOutcome::Done,
        Ok(Err(error)) => {
            tracing::debug!(%error, "cannot record an Event");
            CallOutcome::Failed
        }
        Err(_) => CallOutcome::TimedOut,
    };
    metrics.events.ended(outcome, begun.elapsed());
}

/// Recently handled pods.
#[derive(Debug, Default)]
struct SeenPods(HashMap<String, Instant>);

impl SeenPods {
    fn is_new(&mut self, uid: &str, now: Instant) -> bool {
        self.0.retain(|_, at| now.duration_since(*at) < REPEAT_INTERVAL);
        if self.0.contains_key(uid) {
            return false;
        }
        if self.0.len() >= SEEN_MAX {
            self.0.clear();
        }
        self.0.insert(uid.to_owned(), now);
        true
    }

    fn forget(&mut self, uid: &str) {
        self.0.remove(uid);
    }
}

/// Pauses between deletions of an owner's pods that still fail.
#[derive(Debug, Default)]
struct OwnerBackoff(HashMap<String, (Duration, Instant)>);

impl OwnerBackoff {
    fn admits(&mut self, owner: &str, now: Instant) -> bool {
        let (first, longest) = RETRY_PAUSES;
        let pause = match self.0.get(owner) {
            Some((_, next)) if now < *next => return false,
            Some((pause, _)) => (*pause * 2).min(longest),
            None => first,
        };
        if self.0.len() >= SEEN_MAX {
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
    fn repairs_only_pods_whose_validator_exited_with_95() {
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
            "the latest run succeeded"
        );
        assert_eq!(judge(&pod(json!({"state": ended(1)}))), None, "another failure");
        assert_eq!(judge(&pod(json!({"state": {"running": {}}}))), None);
        let mut going = crashed.clone();
        going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(judge(&going), None);
        let mut alone = crashed;
        alone["metadata"]["ownerReferences"] = Value::Null;
        assert_eq!(judge(&alone).expect("broken").owner, None);
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let metrics = Metrics::new();
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        let broken = judge(&pod(json!({"state": {"terminated": {"exitCode": 95}}})));
        for _ in 0..QUEUE_MAX + 2 {
            enqueue(broken.clone(), &sender, &metrics);
        }
        enqueue(None, &sender, &metrics);
        assert_eq!(queue.len(), QUEUE_MAX);
        assert!(metrics.render().contains("queue_overflow_total 2"));
    }

    #[test]
    fn pods_are_handled_once_in_bounded_memory() {
        let mut seen = SeenPods::default();
        let now = Instant::now();
        assert!(seen.is_new("a", now) && !seen.is_new("a", now + REPEAT_INTERVAL / 2));
        assert!(seen.is_new("a", now + REPEAT_INTERVAL));
        seen.forget("a");
        assert!(seen.is_new("a", now + REPEAT_INTERVAL));
        for i in 0..2 * SEEN_MAX {
            seen.is_new(&i.to_string(), now + REPEAT_INTERVAL);
        }
        assert!(seen.0.len() <= SEEN_MAX);
    }

    #[test]
    fn pauses_grow_for_pods_that_still_fail() {
        let mut backoff = OwnerBackoff::default();
        let (first, longest) = RETRY_PAUSES;
        let now = Instant::now();
        assert!(backoff.admits("a", now) && !backoff.admits("a", now + first / 2) && backoff.admits("b", now));
        assert!(backoff.admits("a", now + first) && !backoff.admits("a", now + first * 2));
        let mut at = now + first;
        let mut tries = 0;
        while at < now + longest * 10 {
            tries += u32::from(backoff.admits("a", at));
            at += Duration::from_secs(1);
        }
        assert!((10..=20).contains(&tries), "{tries}");
        for i in 0..2 * SEEN_MAX {
            backoff.admits(&i.to_string(), now);
        }
        assert!(backoff.0.len() <= SEEN_MAX);
    }
}
