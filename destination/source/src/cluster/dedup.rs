//! What the reader has been told of one kind: a fingerprint of each object. So that the reader hears differences only,
//! whatever the API server repeats, and hears what is gone although nobody told us.
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

/// What a change consists of.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Change {
    /// New or changed.
    pub applied: Vec<Object>,
    /// Gone.
    pub deleted: Vec<ObjectRef>,
    /// Not understood; what these objects said before, if anything, still holds.
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
    /// Of what the API server said last, as far as the mesh reads it.
    print: u64,
    /// Whether the reader has the object: false while it was refused and never understood.
    held: bool,
}

/// What came of reading an object.
#[derive(Debug, Default)]
struct Read {
    entry: Option<Entry>,
    applied: Option<Object>,
    refused: Option<Refusal>,
}

/// The book of one kind.
#[derive(Debug)]
pub(super) struct Book {
    kind: Kind,
    entries: HashMap<Key, Entry>,
    /// While a list is read: what it has so far, and what came of it.
    list: Option<(HashMap<Key, Entry>, Change)>,
    hasher: RandomState,
    most: usize,
}

impl Book {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            entries: HashMap::new(),
            list: None,
            hasher: RandomState::new(),
            most: limits::OBJECTS_OF_KIND,
        }
    }

    /// How many objects there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// A list begins. One that was not finished is forgotten.
    pub(super) fn begin(&mut self) {
        self.list = Some((HashMap::new(), Change::default()));
    }

    /// An object of the list; `version` is the `group/version` that was asked for.
    pub(super) fn listed(&mut self, version: &str, object: Value) {
        let Some((mut seen, mut change)) = self.list.take() else {
            return;
        };
        if let Some(key) = key(&object) {
            let read = self.read(&key, seen.len(), version, object);
            seen.extend(read.entry.map(|entry| (key, entry)));
            change.applied.extend(read.applied);
            change.refused.extend(read.refused);
        }
        self.list = Some((seen, change));
    }

    /// The list is complete: what it did not have is gone.
    pub(super) fn end(&mut self) -> Change {
        let Some((seen, mut change)) = self.list.take() else {
            return Change::default();
        };
        let gone = self
            .entries
            .iter()
            .filter(|(key, entry)| entry.held && !seen.contains_key(*key));
        change.deleted = gone.map(|(key, _)| self.object_ref(key)).collect();
        self.entries = seen;
        change
    }

    /// An object is new or changed.
    pub(super) fn applied(&mut self, version: &str, object: Value) -> Change {
        let Some(key) = key(&object) else {
            return Change::default();
        };
        let read = self.read(&key, self.entries.len(), version, object);
        self.entries.extend(read.entry.map(|entry| (key, entry)));
        Change {
            applied: read.applied.into_iter().collect(),
            deleted: vec![],
            refused: read.refused.into_iter().collect(),
        }
    }

    /// An object is gone.
    pub(super) fn deleted(&mut self, object: &Value) -> Change {
        let mut change = Change::default();
        if let Some(key) = key(object)
            && self.entries.remove(&key).is_some_and(|entry| entry.held)
        {
            change.deleted.push(self.object_ref(&key));
        }
        change
    }

    /// The whole kind is gone.
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

    /// Compares an object with what is known of it; `known` objects count against the most there may be.
    fn read(&self, key: &Key, known: usize, version: &str, mut object: Value) -> Read {
        prune::prune(self.kind, &mut object);
        let print = self.print(&object);
        let before = self.entries.get(key).copied();
        if let Some(before) = before.filter(|before| before.print == print) {
            return Read {
                entry: Some(before),
                ..Read::default()
            };
        }
        let refusal = |reason: String| Refusal {
            file: PathBuf::from("kubernetes"),
            line: None,
            object: Some(self.object_ref(key)),
            reason,
        };
        if before.is_none() && known >= self.most {
            let (object, most) = (self.object_ref(key), self.most);
            let reason = format!("{object} is one object more than {most}, the most of a kind");
            return Read {
                refused: Some(refusal(reason)),
                ..Read::default()
            };
        }
        let understood = understand(self.kind, version, object);
        let held = understood.is_ok() || before.is_some_and(|before| before.held);
        Read {
            entry: Some(Entry { print, held }),
            refused: understood.as_ref().err().cloned().map(refusal),
            applied: understood.ok(),
        }
    }

    fn print(&self, object: &Value) -> u64 {
        struct Into<H>(H);
        impl<H: Hasher> io::Write for Into<H> {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.write(bytes);
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut into = Into(self.hasher.build_hasher());
        serde_json::to_writer(&mut into, object).expect("a hasher takes everything");
        into.0.finish()
    }
}

fn key(object: &Value) -> Option<Key> {
    let metadata = object.get("metadata")?;
    let text = |key: &str| metadata.get(key).and_then(Value::as_str);
    Some((text("namespace").unwrap_or_default().into(), text("name")?.into()))
}

/// The object as a value. A list's items do not say what they are, so it is said for them.
fn understand(kind: Kind, version: &str, mut object: Value) -> Result<Object, String> {
    if kinds::is_metadata_only(kind) {
        let metadata = object.get_mut("metadata").map(Value::take).unwrap_or_default();
        let metadata = serde_json::from_value(metadata).map_err(|error| format!("{kind}: metadata: {error}"))?;
        return of_metadata(kind, metadata).ok_or_else(|| format!("{kind} is read as a whole"));
    }
    if let Value::Object(object) = &mut object {
        object.insert("apiVersion".to_owned(), version.into());
        object.insert("kind".to_owned(), kind.as_str().into());
    }
    Object::from_value(object).map_err(|invalid| invalid.to_string())
}

fn of_metadata(kind: Kind, metadata: ObjectMeta) -> Option<Object> {
    macro_rules! of {
        ($($kind:ident),*) => {
            match kind {
                $(Kind::$kind => Some($kind { metadata, ..$kind::default() }.into()),)*
                _ => None,
            }
        };
    }
    of!(
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

    fn listed(book: &mut Book, objects: &[Value]) -> Change {
        book.begin();
        for object in objects {
            book.listed(V1, object.clone());
        }
        book.end()
    }

    #[test]
    fn a_relist_tells_only_what_differs() {
        let mut book = Book::new(Kind::Service);
        let all = listed(
            &mut book,
            &[service("web", 1, 80), service("api", 1, 80), service("db", 1, 80)],
        );
        assert_eq!(all.applied.len(), 3);
        let again = listed(
            &mut book,
            &[service("web", 9, 80), service("api", 9, 81), service("new", 9, 80)],
        );
        let expected = ["Service a/api", "Service a/new"].map(str::to_owned).to_vec();
        assert_eq!(names(&again), (expected, vec!["Service a/db".to_owned()]));
        assert_eq!(book.len(), 3);
    }

    #[test]
    fn a_list_that_breaks_off_changes_nothing() {
        let mut book = Book::new(Kind::Service);
        listed(&mut book, &[service("web", 1, 80), service("api", 1, 80)]);
        book.begin();
        book.listed(V1, service("web", 2, 81));
        let again = listed(&mut book, &[service("web", 2, 81), service("api", 2, 80)]);
        assert_eq!(names(&again), (vec!["Service a/web".to_owned()], vec![]));
    }

    #[test]
    fn events_that_repeat_or_say_nothing_new_are_silent() {
        let mut book = Book::new(Kind::Service);
        assert_eq!(book.applied(V1, service("web", 1, 80)).applied.len(), 1);
        assert!(book.applied(V1, service("web", 2, 80)).is_empty());
        assert_eq!(book.deleted(&service("web", 3, 80)).deleted.len(), 1);
        assert!(book.deleted(&service("web", 3, 80)).is_empty());
        assert_eq!(book.applied(V1, service("web", 4, 80)).applied.len(), 1);
        assert_eq!(names(&book.absent()).1, ["Service a/web"]);
    }

    #[test]
    fn what_is_refused_is_said_once_and_keeps_what_it_said_before() {
        let split = |weight: Value| {
            json!({"metadata": {"name": "s", "namespace": "a"},
                "spec": {"service": "web", "backends": [{"service": "x", "weight": weight}]}})
        };
        let mut book = Book::new(Kind::TrafficSplit);
        assert_eq!(book.applied(ALPHA, split(json!("900m"))).applied.len(), 1);
        let refused = book.applied(ALPHA, split(json!(-1)));
        assert!(names(&refused) == (vec![], vec![]) && refused.refused.len() == 1);
        let said = refused.refused[0].to_string();
        assert!(
            said.starts_with("kubernetes: TrafficSplit a/s: spec.backends[0].weight"),
            "{said}"
        );
        assert!(book.applied(ALPHA, split(json!(-1))).is_empty());
        // Still held, so that the reader hears that it is gone; one that was never understood is nobody's.
        assert_eq!(book.deleted(&split(json!(-1))).deleted.len(), 1);
        book.applied(ALPHA, split(json!(-1)));
        assert!(book.absent().is_empty());
    }

    #[test]
    fn more_than_the_most_is_refused_with_the_number() {
        let mut book = Book::new(Kind::Service);
        book.most = 1;
        book.applied(V1, service("web", 1, 80));
        let refused = book.applied(V1, service("api", 1, 80)).refused;
        let said = refused[0].to_string();
        assert_eq!(
            said,
            "kubernetes: Service a/api is one object more than 1, the most of a kind"
        );
        assert_eq!(book.len(), 1);
        assert_eq!(book.applied(V1, service("web", 2, 81)).applied.len(), 1);
    }

    #[test]
    fn of_controllers_metadata_is_enough() {
        let mut book = Book::new(Kind::ReplicaSet);
        let owner =
            json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "u", "controller": true}]);
        let set = json!({"metadata": {"name": "web-1", "namespace": "a", "ownerReferences": owner}});
        let change = book.applied("apps/v1", set);
        let owners = change.applied[0].metadata().owner_references.as_ref().expect("kept");
        assert_eq!(owners[0].name, "web");
    }
}
