//! What a review needs to know of the cluster: annotations of namespaces, and who owns what owns a pod. Kept at hand, so that a
//! review asks nobody.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use destination_k8s::{Kind, Object, ObjectRef};
use destination_source::Update;
use injector_patch::{Namespace, Owner};
use proxy_process::admin::Readiness;
use tokio::sync::mpsc;

/// Label that a Deployment's ReplicaSets and their pods share.
const TEMPLATE_HASH: &str = destination_k8s::keys::POD_TEMPLATE_HASH;

/// What controls a pod, or what controls that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Controller {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    /// Empty if it is not known.
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

/// The hash of a pod's template, that a Deployment gives it.
pub(crate) fn template_hash(pod: &serde_json::Value) -> Option<&str> {
    pod["metadata"]["labels"][TEMPLATE_HASH].as_str()
}

/// What is known of the cluster; clones know the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cluster(Arc<RwLock<State>>);

#[derive(Debug, Default)]
struct State {
    namespaces: HashMap<String, Arc<Namespace>>,
    owners: HashMap<ObjectRef, Controller>,
}

impl Cluster {
    /// A namespace. One that is not known (yet) has no annotations.
    pub(crate) fn namespace(&self, name: &str) -> Arc<Namespace> {
        let known = self
            .0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .namespaces
            .get(name)
            .cloned();
        known.unwrap_or_else(|| {
            Arc::new(Namespace {
                name: name.to_owned(),
                ..Namespace::default()
            })
        })
    }

    /// What a person would name as the owner: a Deployment instead of its ReplicaSet, a CronJob instead of its Job.
    pub(crate) fn owner(&self, namespace: &str, direct: &Controller, hash: Option<&str>) -> Controller {
        let kind = match direct.kind.as_str() {
            "ReplicaSet" => Kind::ReplicaSet,
            "Job" => Kind::Job,
            _ => return direct.clone(),
        };
        let key = ObjectRef::new(kind, namespace, &direct.name);
        if let Some(owner) = self.0.read().unwrap_or_else(PoisonError::into_inner).owners.get(&key) {
            return owner.clone();
        }
        // A ReplicaSet can be newer than what we know. A Deployment names its own after itself and the template's hash.
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

    /// Takes updates until their source ends; ready after the first.
    pub(crate) async fn follow(self, mut updates: mpsc::Receiver<Update>, ready: Readiness) {
        while let Some(update) = updates.recv().await {
            match update {
                Update::Reset(objects) => {
                    let mut state = State::default();
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
                        tracing::warn!(%refusal, "not used");
                    }
                }
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
            _ => {}
        }
    }

    fn delete(&mut self, object: &ObjectRef) {
        if object.kind == Kind::Namespace {
            self.namespaces.remove(&*object.name);
        } else {
            self.owners.remove(object);
        }
    }
}
