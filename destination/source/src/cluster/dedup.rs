//! Fingerprints of the objects of one kind that the reader has. Passes on differences only, whatever the API server
//! repeats, and detects deletions that were missed.
//!
//! Pure: objects as JSON in, changes out.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hasher, RandomState},
    io,
    path::PathBuf,
    sync::Arc,
};

use destination_k8s::{Kind, Object, ObjectRef};
use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        batch::v1::{CronJob, Job},
        core::v1::{Namespace, Node, ServiceAccount},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::Value;

use super::{kinds, prune};
use crate::{Refusal, limits};

/// Changes of one kind.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Change {
    /// New or changed objects.
    pub applied: Vec<Object>,
    /// Deleted objects.
    pub deleted: Vec<ObjectRef>,
    /// Rejected objects; their last valid state, if any, stays in effect.
    pub refused: Vec<Refusal>,
}

impl Change {
    pub(super) fn is_empty(&self) -> bool {
        self.applied.is_empty() && self.deleted.is_empty() && self.refused.is_empty()
    }
}

/// Namespace and name.
type Key = (Arc<str>, Arc<str>);

#[derive(Copy, Clone, Debug)]
struct Entry {
    /// Hash of the latest pruned object.
    fingerprint: u64,
    /// The reader has the object: false if no state of it was ever valid.
    delivered: bool,
}

/// Result of comparing an object with its entry.
#[derive(Debug, Default)]
struct Comparison {
    entry: Option<Entry>,
    applied: Option<Object>,
    refused: Option<Refusal>,
}

/// Deduplicates the objects of one kind.
#[derive(Debug)]
pub(super) struct ObjectDedup {
    kind: Kind,
    entries: HashMap<Key, Entry>,
    /// Entries and changes of the list in progress.
    list: Option<(HashMap<Key, Entry>, Change)>,
    hasher: RandomState,
    max: usize,
}

impl ObjectDedup {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            entries: HashMap::new(),
            list: None,
            hasher: RandomState::new(),
            max: limits::OBJECTS_OF_KIND,
        }
    }

    /// Returns the number of objects.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Begins a list and discards an unfinished one.
    pub(super) fn begin(&mut self) {
        self.list = Some((HashMap::new(), Change::default()));
    }

    /// Adds an object of the list; `version` is the requested `group/version`.
    pub(super) fn listed(&mut self, version: &str, object: Value) {
        let Some((mut seen, mut change)) = self.list.take() else {
            return;
        };
        if let Some(key) = key(&object) {
            let result = self.compare(&key, seen.len(), version, object);
            seen.extend(result.entry.map(|entry| (key, entry)));
            change.applied.extend(result.applied);
            change.refused.extend(result.refused);
        }
        self.list = Some((seen, change));
    }

    /// Ends the list: objects missing from it are deleted.
    pub(super) fn end(&mut self) -> Change {
        let Some((seen, mut change)) = self.list.take() else {
            return Change::default();
        };
        let gone = self
            .entries
            .iter()
            .filter(|(key, entry)| entry.delivered && !seen.contains_key(*key));
        change.deleted = gone.map(|(key, _)| self.object_ref(key)).collect();
        self.entries = seen;
        change
    }

    /// Adds or changes an object.
    pub(super) fn applied(&mut self, version: &str, object: Value) -> Change {
        let Some(key) = key(&object) else {
            return Change::default();
        };
        let result = self.compare(&key, self.entries.len(), version, object);
        self.entries.extend(result.entry.map(|entry| (key, entry)));
        Change {
            applied: result.applied.into_iter().collect(),
            deleted: vec![],
            refused: result.refused.into_iter().collect(),
        }
    }

    /// Deletes an object.
    pub(super) fn deleted(&mut self, object: &Value) -> Change {
        let mut change = Change::default();
        if let Some(key) = key(object)
            && self.entries.remove(&key).is_some_and(|entry| entry.delivered)
        {
            change.deleted.push(self.object_ref(&key));
        }
        change
    }

    /// Deletes all objects.
    pub(super) fn absent(&mut self) -> Change {
        self.begin();
        self.end()
    }

    fn object_ref(&self, (namespace, name): &Key) -> ObjectRef {
        ObjectRef {
            kind: self.kind,
            namespace: namespace.clone(),
            name: name.clone(),
        }
    }

    /// Compares an object with its entry; `known` objects count against the limit.
    fn compare(&self, key: &Key, known: usize, version: &str, mut object: Value) -> Comparison {
        prune::prune(self.kind, &mut object);
        let fingerprint = self.fingerprint(&object);
        let before = self.entries.get(key).copied();
        if let Some(before) = before.filter(|before| before.fingerprint == fingerprint) {
            return Comparison {
                entry: Some(before),
                ..Comparison::default()
            };
        }
        let refusal = |reason: String| Refusal {
            file: PathBuf::from("kubernetes"),
            line: None,
            object: Some(self.object_ref(key)),
            reason,
        };
        if before.is_none() && known >= self.max {
            let (object, max) = (self.object_ref(key), self.max);
            let reason = format!("{object} exceeds the limit of {max} objects of a kind");
            return Comparison {
                refused: Some(refusal(reason)),
                ..Comparison::default()
            };
        }
        let parsed = parse(self.kind, version, object);
        let delivered = parsed.is_ok() || before.is_some_and(|before| before.delivered);
        Comparison {
            entry: Some(Entry { fingerprint, delivered }),
            refused: parsed.as_ref().err().cloned().map(refusal),
            applied: parsed.ok(),
        }
    }

    fn fingerprint(&self, object: &Value) -> u64 {
        struct HashWriter<H>(H);
        impl<H: Hasher> io::Write for HashWriter<H> {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.write(bytes);
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut writer = HashWriter(self.hasher.build_hasher());
        serde_json::to_writer(&mut writer, object).expect("hashing does not fail");
        writer.0.finish()
    }
}

fn key(object: &Value) -> Option<Key> {
    let metadata = object.get("metadata")?;
    let text = |key: &str| metadata.get(key).and_then(Value::as_str);
    Some((text("namespace").unwrap_or_default().into(), text("name")?.into()))
}

/// Parses an object. Items of a list have neither version nor kind, so both are filled in.
fn parse(kind: Kind, version: &str, mut object: Value) -> Result<Object, String> {
    if kinds::is_metadata_only(kind) {
        let metadata = object.get_mut("metadata").map(Value::take).unwrap_or_default();
        let metadata = serde_json::from_value(metadata).map_err(|error| format!("{kind}: metadata: {error}"))?;
        return from_metadata(kind, metadata).ok_or_else(|| format!("{kind} is not read by metadata alone"));
    }
    if let Value::Object(object) = &mut object {
        object.insert("apiVersion".to_owned(), version.into());
        object.insert("kind".to_owned(), kind.as_str().into());
    }
    Object::from_value(object).map_err(|invalid| invalid.to_string())
}

fn from_metadata(kind: Kind, metadata: ObjectMeta) -> Option<Object> {
    macro_rules! from_metadata {
        ($($kind:ident),*) => {
            match kind {
                $(Kind::$kind => Some($kind { metadata, ..$kind::default() }.into()),)*
                _ => None,
            }
        };
    }
    from_metadata!(
        Namespace,
        Node,
        Deployment,
        ReplicaSet,
        StatefulSet,
        DaemonSet,
        Job,
        CronJob,
        ServiceAccount
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const V1: &str = "v1";
    const ALPHA: &str = "split.smi-spec.io/v1alpha1";

    fn service(name: &str, version: u32, port: u16) -> Value {
        json!({"metadata": {"name": name, "namespace": "a", "resourceVersion": version.to_string()},
            "spec": {"ports": [{"port": port}]}})
    }

    fn names(change: &Change) -> (Vec<String>, Vec<String>) {
        let applied = change.applied.iter().map(|o| o.object_ref().to_string()).collect();
        (applied, change.deleted.iter().map(ToString::to_string).collect())
    }

    fn listed(dedup: &mut ObjectDedup, objects: &[Value]) -> Change {
        dedup.begin();
        for object in objects {
            dedup.listed(V1, object.clone());
        }
        dedup.end()
    }

    #[test]
    fn relist_yields_only_differences() {
        let mut dedup = ObjectDedup::new(Kind::Service);
        let all = listed(
            &mut dedup,
            &[service("web", 1, 80), service("api", 1, 80), service("db", 1, 80)],
        );
        assert_eq!(all.applied.len(), 3);
        let again = listed(
            &mut dedup,
            &[service("web", 9, 80), service("api", 9, 81), service("new", 9, 80)],
        );
        let expected = ["Service a/api", "Service a/new"].map(str::to_owned).to_vec();
        assert_eq!(names(&again), (expected, vec!["Service a/db".to_owned()]));
        assert_eq!(dedup.len(), 3);
    }

    #[test]
    fn unfinished_list_changes_nothing() {
        let mut dedup = ObjectDedup::new(Kind::Service);
        listed(&mut dedup, &[service("web", 1, 80), service("api", 1, 80)]);
        dedup.begin();
        dedup.listed(V1, service("web", 2, 81));
        let again = listed(&mut dedup, &[service("web", 2, 81), service("api", 2, 80)]);
        assert_eq!(names(&again), (vec!["Service a/web".to_owned()], vec![]));
    }

    #[test]
    fn repeated_events_yield_nothing() {
        let mut dedup = ObjectDedup::new(Kind::Service);
        assert_eq!(dedup.applied(V1, service("web", 1, 80)).applied.len(), 1);
        assert!(dedup.applied(V1, service("web", 2, 80)).is_empty());
        assert_eq!(dedup.deleted(&service("web", 3, 80)).deleted.len(), 1);
        assert!(dedup.deleted(&service("web", 3, 80)).is_empty());
        assert_eq!(dedup.applied(V1, service("web", 4, 80)).applied.len(), 1);
        assert_eq!(names(&dedup.absent()).1, ["Service a/web"]);
    }

    #[test]
    fn rejects_an_invalid_state_once_and_keeps_the_last_valid_one() {
        let split = |weight: Value| {
            json!({"metadata": {"name": "s", "namespace": "a"},
                "spec": {"service": "web", "backends": [{"service": "x", "weight": weight}]}})
        };
        let mut dedup = ObjectDedup::new(Kind::TrafficSplit);
        assert_eq!(dedup.applied(ALPHA, split(json!("900m"))).applied.len(), 1);
        let refused = dedup.applied(ALPHA, split(json!(-1)));
        assert!(names(&refused) == (vec![], vec![]) && refused.refused.len() == 1);
        let reason = refused.refused[0].to_string();
        assert!(
            reason.starts_with("kubernetes: TrafficSplit a/s: spec.backends[0].weight"),
            "{reason}"
        );
        assert!(dedup.applied(ALPHA, split(json!(-1))).is_empty());
        // Still delivered, so that the reader gets its deletion; one that was never valid is not.
        assert_eq!(dedup.deleted(&split(json!(-1))).deleted.len(), 1);
        dedup.applied(ALPHA, split(json!(-1)));
        assert!(dedup.absent().is_empty());
    }

    #[test]
    fn rejects_objects_over_the_limit() {
        let mut dedup = ObjectDedup::new(Kind::Service);
        dedup.max = 1;
        dedup.applied(V1, service("web", 1, 80));
        let refused = dedup.applied(V1, service("api", 1, 80)).refused;
        let reason = refused[0].to_string();
        assert_eq!(
            reason,
            "kubernetes: Service a/api exceeds the limit of 1 objects of a kind"
        );
        assert_eq!(dedup.len(), 1);
        assert_eq!(dedup.applied(V1, service("web", 2, 81)).applied.len(), 1);
    }

    #[test]
    fn reads_only_metadata_of_workloads() {
        let mut dedup = ObjectDedup::new(Kind::ReplicaSet);
        let owner =
            json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "u", "controller": true}]);
        let set = json!({"metadata": {"name": "web-1", "namespace": "a", "ownerReferences": owner}});
        let change = dedup.applied("apps/v1", set);
        let owners = change.applied[0].metadata().owner_references.as_ref().expect("kept");
        assert_eq!(owners[0].name, "web");
    }
}
