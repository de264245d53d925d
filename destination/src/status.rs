//! Writes what the index decides of statuses: the process that holds the lease, one status after the other.

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

/// Time for one status.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time between two rounds, where something failed.
const AGAIN: Duration = Duration::from_secs(10);
/// Statuses of one round; then what is wanted is looked at anew, for it may have changed.
const STATUSES_OF_ROUND: usize = 500;

/// What statuses should be. Latest wins: who writes slowly skips what was meanwhile.
pub(crate) type Wanted = Arc<BTreeMap<ObjectRef, Content>>;

/// Writes statuses.
pub(crate) struct Writer {
    pub(crate) client: Client,
    pub(crate) states: States,
    pub(crate) leads: watch::Receiver<bool>,
    pub(crate) wanted: watch::Receiver<Wanted>,
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

    /// Writes as long as we hold the lease. None means that the program ends.
    async fn lead(&mut self) -> Option<()> {
        // What was written, by us in this time: what others wrote before is read.
        let mut written: BTreeMap<ObjectRef, u64> = BTreeMap::new();
        while *self.leads.borrow() {
            let wanted = self.wanted.borrow_and_update().clone();
            let todo = todo(&wanted, &written);
            self.metrics.statuses_waiting(todo.len());
            let all = todo.len() <= STATUSES_OF_ROUND;
            let mut failed = false;
            for (object, content) in todo.into_iter().take(STATUSES_OF_ROUND) {
                if !*self.leads.borrow() {
                    return Some(());
                }
                if self.write(&object, &content).await {
                    match wanted.get(&object) {
                        Some(content) => written.insert(object, print(content)),
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
                changed = self.wanted.changed() => changed.ok()?,
                changed = self.leads.changed() => changed.ok()?,
                () = sleep(AGAIN), if failed => {}
            }
        }
        Some(())
    }

    /// Writes one status; says whether it need not be tried again.
    async fn write(&self, object: &ObjectRef, content: &Content) -> bool {
        let state = self.states.kinds().into_iter().find(|state| state.kind == object.kind);
        // A kind that is not served has no status.
        let Some(version) = state.and_then(|state| state.version) else {
            return true;
        };
        let wanted = value(content);
        let write = write_status(&self.client, object, version, &wanted);
        let result = match timeout(PATIENCE, write).await {
            Ok(Ok(changed)) => {
                self.metrics
                    .status_written(if changed { "written" } else { "unchanged" });
                return true;
            }
            // Deleted meanwhile.
            Ok(Err(Error::Absent { .. })) => return true,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("the status of the {object} is not written after {PATIENCE:?}"),
        };
        self.metrics.status_written("failed");
        tracing::warn!("{result}; it is tried again in {AGAIN:?}");
        false
    }
}

/// What must be written. A route that has no parent of ours any more loses what we wrote of it.
fn todo(wanted: &Wanted, written: &BTreeMap<ObjectRef, u64>) -> Vec<(ObjectRef, Content)> {
    let differs = |(object, content): &(&ObjectRef, &Content)| written.get(*object) != Some(&print(content));
    let news = wanted.iter().filter(differs).map(|(o, c)| (o.clone(), c.clone()));
    let gone = written.keys().filter(|object| !wanted.contains_key(*object));
    news.chain(gone.map(|object| (object.clone(), Content::Route(vec![]))))
        .collect()
}

/// Enough of a content to tell whether it is another.
fn print(content: &Content) -> u64 {
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
    fn only_what_differs_from_what_we_wrote_is_written() {
        let object = |name: &str| {
            let value = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "a"}});
            destination_index::Object::from_value(value)
                .expect("an object")
                .object_ref()
        };
        let wanted = |holds: bool| Arc::new(BTreeMap::from([(object("a"), content(holds))]));
        let mut written = BTreeMap::new();
        assert_eq!(todo(&wanted(true), &written).len(), 1);
        written.insert(object("a"), print(&content(true)));
        assert_eq!(todo(&wanted(true), &written), []);
        assert_eq!(todo(&wanted(false), &written), [(object("a"), content(false))]);
        // What is no longer wanted is taken back once.
        written.insert(object("b"), 1);
        let back = todo(&wanted(true), &written);
        assert_eq!(back, [(object("b"), Content::Route(vec![]))]);
        assert_eq!(value(&back[0].1), json!({"parents": [{"controllerName": CONTROLLER}]}));
    }
}
