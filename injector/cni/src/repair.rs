//! Repairs: a pod whose validator found that nothing is redirected started before the plugin was on its node. It is deleted, so
//! that its controller makes it anew, now through the plugin.
//!
//! ```text
//! pods of this node ─[judge]─▶ queue ─▶ once the plugin is in place: Event, deletion
//! ```

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use destination_k8s::keys;
use destination_source::{
    Error,
    cluster::{self, Client, Filter, Note, ObjectReference, Resource, Weight},
};
use proxy_process::admin::Readiness;
use serde_json::Value;
use tokio::{sync::mpsc, time::timeout};

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
    /// Whether somebody makes it again.
    is_owned: bool,
}

/// Repairs the pods of a node, for ever.
pub(crate) async fn run(client: Client, node: String, installed: Readiness, metrics: Metrics) {
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
    (code == NOT_REDIRECTED).then_some(Broken {
        namespace: text("namespace")?,
        name: text("name")?,
        uid: text("uid")?,
        is_owned: owners.any(|owner| owner["controller"] == true),
    })
}

fn enqueue(broken: Option<Broken>, queue: &mpsc::Sender<Broken>, metrics: &Metrics) {
    if let Some(broken) = broken
        && queue.try_send(broken).is_err()
    {
        metrics.queue_overflow.inc();
    }
}

async fn work(client: &Client, mut queue: mpsc::Receiver<Broken>, installed: Readiness, metrics: Metrics) {
    let mut remembered = Remembered::default();
    while let Some(broken) = queue.recv().await {
        // A pod that is made anew before the plugin is there would be no better.
        while !installed.is_ready() {
            tokio::time::sleep(READY_POLL).await;
        }
        if !remembered.is_new(&broken.uid, Instant::now()) {
            continue;
        }
        let Broken { namespace, name, .. } = &broken;
        if !broken.is_owned {
            metrics.pods_left.inc();
            tracing::warn!(%namespace, %name, "its traffic is not redirected, and nobody would make it again: delete and make it");
            tell(
                client,
                &broken,
                "traffic is not redirected: the pod started before the CNI plugin was on its node; \
                 nobody would make it again, so it is left: delete it and make it again",
                &metrics,
            )
            .await;
            continue;
        }
        tell(
            client,
            &broken,
            "traffic is not redirected: the pod started before the CNI plugin was on its node; \
             it is deleted, so that its controller makes it again",
            &metrics,
        )
        .await;
        let begun = Instant::now();
        let pods = Resource::new("v1", "pods").within(namespace);
        let deleted = timeout(CALL_TIMEOUT, pods.delete(client, name, &broken.uid)).await;
        let came = match deleted {
            Ok(Ok(())) => {
                tracing::info!(%namespace, %name, "deleted a pod whose traffic was not redirected");
                Came::Done
            }
            // Somebody else did, or it is another one by now.
            Ok(Err(Error::Absent { .. } | Error::Conflict { .. })) => continue,
            Ok(Err(error)) => {
                tracing::warn!(%error, %namespace, %name, "a pod was not deleted");
                remembered.forget(&broken.uid);
                Came::Failed
            }
            Err(_) => {
                remembered.forget(&broken.uid);
                Came::TimedOut
            }
        };
        metrics.deletions.ended(came, begun.elapsed());
    }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: Value) -> Value {
        let owners = json!([{"kind": "ReplicaSet", "name": "web-1", "controller": true}]);
        let mut status = status;
        status["name"] = VALIDATOR.into();
        json!({
            "metadata": {"namespace": "a", "name": "web-1-x", "uid": "u", "ownerReferences": owners},
            "status": {"initContainerStatuses": [{"name": "other", "state": {"terminated": {"exitCode": 95}}}, status]},
        })
    }

    #[test]
    fn only_a_validator_that_ended_with_95_is_repaired() {
        let ended = |code: i64| json!({"terminated": {"exitCode": code}});
        let crashed = pod(json!({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended(95)}));
        let broken = judge(&crashed).expect("broken");
        assert_eq!((broken.name.as_str(), broken.is_owned), ("web-1-x", true));
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
        assert!(!judge(&alone).expect("broken").is_owned);
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
}
