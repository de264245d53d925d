//! State of the cluster that reviews need: annotations of namespaces, owners of the controllers of pods, names of
//! Services. Cached, so that a review makes no request.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use destination_k8s::{Kind, Object, ObjectRef};
use destination_source::Update;
use injector_patch::{Namespace, Owner};
use proxy_process::admin::Readiness;
use tokio::sync::mpsc;

/// Label shared by a Deployment's ReplicaSets and their pods.
const TEMPLATE_HASH: &str = destination_k8s::keys::POD_TEMPLATE_HASH;

/// Controller of a pod, or the controller of that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Controller {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    /// Empty if unknown.
    pub(crate) uid: String,
}

impl From<Controller> for Owner {
    fn from(controller: Controller) -> Self {
        Self {
            kind: controller.kind,
            name: controller.name,
        }
    }
}

/// Returns the template hash that a Deployment gives its pods.
pub(crate) fn template_hash(pod: &serde_json::Value) -> Option<&str> {
    pod["metadata"]["labels"][TEMPLATE_HASH].as_str()
}

/// Cached state of the cluster; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cluster(Arc<RwLock<State>>);

#[derive(Debug, Default)]
struct State {
    namespaces: HashMap<String, Arc<Namespace>>,
    owners: HashMap<ObjectRef, Controller>,
    services: HashSet<ObjectRef>,
    /// Set by the first complete list.
    synced: bool,
}

impl Cluster {
    /// Returns a namespace; an unknown one has no annotations.
    pub(crate) fn namespace(&self, name: &str) -> Arc<Namespace> {
        let known = self.read().namespaces.get(name).cloned();
        known.unwrap_or_else(|| {
            Arc::new(Namespace {
                name: name.to_owned(),
                ..Namespace::default()
            })
        })
    }

    /// Returns true if the namespace exists.
    pub(crate) fn has_namespace(&self, name: &str) -> bool {
        self.read().namespaces.contains_key(name)
    }

    /// Returns true if a Service is known not to exist.
    pub(crate) fn lacks_service(&self, namespace: &str, name: &str) -> bool {
        let state = self.read();
        state.synced && !state.services.contains(&ObjectRef::new(Kind::Service, namespace, name))
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the owner of a controller that the watch has delivered.
    pub(crate) fn known_owner(&self, namespace: &str, direct: &Controller) -> Option<Controller> {
        let kind = Kind::from_group("apps", &direct.kind).or_else(|| Kind::from_group("batch", &direct.kind))?;
        let key = ObjectRef::new(kind, namespace, &direct.name);
        self.read().owners.get(&key).cloned()
    }

    /// Returns the top-level owner: a Deployment instead of its ReplicaSet, a CronJob instead of its Job.
    pub(crate) fn owner(&self, namespace: &str, direct: &Controller, hash: Option<&str>) -> Controller {
        let kind = match direct.kind.as_str() {
            "ReplicaSet" => Kind::ReplicaSet,
            "Job" => Kind::Job,
            _ => return direct.clone(),
        };
        let key = ObjectRef::new(kind, namespace, &direct.name);
        if let Some(owner) = self.read().owners.get(&key) {
            return owner.clone();
        }
        // A ReplicaSet may be newer than the cache. A Deployment names its ReplicaSets after itself and the template's
        // hash.
        let base = hash.and_then(|hash| direct.name.strip_suffix(hash)?.strip_suffix('-'));
        match base {
            Some(name) if kind == Kind::ReplicaSet => Controller {
                api_version: direct.api_version.clone(),
                kind: "Deployment".to_owned(),
                name: name.to_owned(),
                uid: String::new(),
            },
            _ => direct.clone(),
        }
    }

    /// Applies updates until their source ends; ready after the first.
    pub(crate) async fn follow(self, mut updates: mpsc::Receiver<Update>, ready: Readiness) {
        while let Some(update) = updates.recv().await {
            match update {
                Update::Reset(objects) => {
                    let mut state = State {
                        synced: true,
                        ..State::default()
                    };
                    for object in &objects {
                        state.apply(object);
                    }
                    *self.0.write().unwrap_or_else(PoisonError::into_inner) = state;
                    ready.set();
                }
                Update::Changed { applied, deleted } => {
                    let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
                    for object in &deleted {
                        state.delete(object);
                    }
                    for object in &applied {
                        state.apply(object);
                    }
                }
                Update::Refused(refused) => {
                    for refusal in refused {
                        tracing::warn!(%refusal, "ignored an invalid object");
                    }
                }
                Update::Recovered(_) => {}
            }
        }
    }
}

impl State {
    fn apply(&mut self, object: &Object) {
        let metadata = object.metadata();
        match object {
            Object::Namespace(_) => {
                let annotations = metadata.annotations.clone().unwrap_or_default();
                let namespace = Namespace {
                    name: object.name().to_owned(),
                    annotations,
                };
                self.namespaces.insert(object.name().to_owned(), Arc::new(namespace));
            }
            Object::ReplicaSet(_) | Object::Job(_) => {
                let mut owners = metadata.owner_references.iter().flatten();
                match owners.find(|owner| owner.controller == Some(true)) {
                    Some(owner) => {
                        let owner = Controller {
                            api_version: owner.api_version.clone(),
                            kind: owner.kind.clone(),
                            name: owner.name.clone(),
                            uid: owner.uid.clone(),
                        };
                        self.owners.insert(object.object_ref(), owner);
                    }
                    None => self.delete(&object.object_ref()),
                }
            }
            Object::Service(_) => {
                self.services.insert(object.object_ref());
            }
            _ => {}
        }
    }

    fn delete(&mut self, object: &ObjectRef) {
        match object.kind {
            Kind::Namespace => {
                self.namespaces.remove(&*object.name);
            }
            Kind::Service => {
                self.services.remove(object);
            }
            _ => {
                self.owners.remove(object);
            }
        }
    }
}
