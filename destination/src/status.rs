//! Writes the statuses that the index decides, one after the other, while this process holds the lease.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use destination_grpc::Metrics;
use destination_index::{
    ObjectRef,
    status::{CONTROLLER, Condition, Content},
};
use destination_source::{
    Error,
    cluster::{Client, States, write_status},
};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

/// Time to write one status.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Delay before failed writes are retried.
const RETRY_DELAY: Duration = Duration::from_secs(10);
/// Statuses of one round; the desired ones may have changed by then and are read again.
const STATUSES_OF_ROUND: usize = 500;

/// Desired statuses. The latest wins: a slow writer skips intermediate ones.
pub(crate) type DesiredStatuses = Arc<BTreeMap<ObjectRef, Content>>;

/// Writer of statuses.
pub(crate) struct Writer {
    pub(crate) client: Client,
    pub(crate) states: States,
    pub(crate) leads: watch::Receiver<bool>,
    pub(crate) desired: watch::Receiver<DesiredStatuses>,
    pub(crate) metrics: Metrics,
}

impl Writer {
    /// Runs until the program ends.
    pub(crate) async fn run(mut self) {
        loop {
            if self.leads.wait_for(|leads| *leads).await.is_err() {
                return;
            }
            if self.lead().await.is_none() {
                return;
            }
            self.metrics.statuses_waiting(0);
        }
    }

    /// Writes as long as this process holds the lease. None means that the program ends.
    async fn lead(&mut self) -> Option<()> {
        // Fingerprints of the statuses written in this term; earlier ones are read from the cluster.
        let mut written: BTreeMap<ObjectRef, u64> = BTreeMap::new();
        while *self.leads.borrow() {
            let desired = self.desired.borrow_and_update().clone();
            let pending = pending(&desired, &written);
            self.metrics.statuses_waiting(pending.len());
            let all = pending.len() <= STATUSES_OF_ROUND;
            let mut failed = false;
            for (object, content) in pending.into_iter().take(STATUSES_OF_ROUND) {
                if !*self.leads.borrow() {
                    return Some(());
                }
                if self.write(&object, &content).await {
                    match desired.get(&object) {
                        Some(content) => written.insert(object, fingerprint(content)),
                        None => written.remove(&object),
                    };
                } else {
                    failed = true;
                }
            }
            if all && !failed {
                self.metrics.statuses_waiting(0);
            }
            if !all {
                continue;
            }
            tokio::select! {
                changed = self.desired.changed() => changed.ok()?,
                changed = self.leads.changed() => changed.ok()?,
                () = sleep(RETRY_DELAY), if failed => {}
            }
        }
        Some(())
    }

    /// Writes one status and returns true unless it must be retried.
    async fn write(&self, object: &ObjectRef, content: &Content) -> bool {
        let state = self.states.kinds().into_iter().find(|state| state.kind == object.kind);
        // A kind that is not served has no status.
        let Some(version) = state.and_then(|state| state.version) else {
            return true;
        };
        let desired = value(content);
        let write = write_status(&self.client, object, version, &desired);
        let result = match timeout(WRITE_TIMEOUT, write).await {
            Ok(Ok(changed)) => {
                self.metrics
                    .status_written(if changed { "written" } else { "unchanged" });
                return true;
            }
            // Deleted meanwhile.
            Ok(Err(Error::Absent { .. })) => return true,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("cannot write the status of the {object}: timed out after {WRITE_TIMEOUT:?}"),
        };
        self.metrics.status_written("failed");
        tracing::warn!("{result}; retrying in {RETRY_DELAY:?}");
        false
    }
}

/// Returns the statuses to write. A route without any parent of ours left loses its earlier status.
fn pending(desired: &DesiredStatuses, written: &BTreeMap<ObjectRef, u64>) -> Vec<(ObjectRef, Content)> {
    let differs = |(object, content): &(&ObjectRef, &Content)| written.get(*object) != Some(&fingerprint(content));
    let news = desired.iter().filter(differs).map(|(o, c)| (o.clone(), c.clone()));
    let gone = written.keys().filter(|object| !desired.contains_key(*object));
    news.chain(gone.map(|object| (object.clone(), Content::Route(vec![]))))
        .collect()
}

/// Returns a fingerprint of a status, to detect changes.
fn fingerprint(content: &Content) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{content:?}").hash(&mut hasher);
    hasher.finish()
}

fn value(content: &Content) -> Value {
    match content {
        Content::Route(parents) if parents.is_empty() => json!({"parents": [{"controllerName": CONTROLLER}]}),
        Content::Route(parents) => {
            let parents = parents.iter().map(|found| {
                json!({
                    "controllerName": CONTROLLER,
                    "parentRef": found.parent,
                    "conditions": conditions(&found.conditions),
                })
            });
            json!({"parents": parents.collect::<Vec<_>>()})
        }
        Content::Policy(found, target) => {
            let mut value = json!({"conditions": conditions(found)});
            if let Some(target) = target {
                value["targetRef"] = json!(target);
            }
            value
        }
    }
}

fn conditions(found: &[Condition]) -> Vec<Value> {
    let condition = |c: &Condition| {
        let holds = if c.holds { "True" } else { "False" };
        json!({"type": c.kind, "status": holds, "reason": c.reason, "message": c.message})
    };
    found.iter().map(condition).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(holds: bool) -> Content {
        let condition = Condition {
            kind: "Accepted",
            holds,
            reason: "Accepted",
            message: String::new(),
        };
        Content::Policy(vec![condition], None)
    }

    #[test]
    fn writes_only_changed_statuses() {
        let object = |name: &str| {
            let value = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "a"}});
            destination_index::Object::from_value(value)
                .expect("an object")
                .object_ref()
        };
        let desired = |holds: bool| Arc::new(BTreeMap::from([(object("a"), content(holds))]));
        let mut written = BTreeMap::new();
        assert_eq!(pending(&desired(true), &written).len(), 1);
        written.insert(object("a"), fingerprint(&content(true)));
        assert_eq!(pending(&desired(true), &written), []);
        assert_eq!(pending(&desired(false), &written), [(object("a"), content(false))]);
        // A status that is no longer desired is removed once.
        written.insert(object("b"), 1);
        let back = pending(&desired(true), &written);
        assert_eq!(back, [(object("b"), Content::Route(vec![]))]);
        assert_eq!(value(&back[0].1), json!({"parents": [{"controllerName": CONTROLLER}]}));
    }
}
