//! What manifests say that is valid and yet surely not meant: told once, in words. Pure.

use std::collections::{BTreeMap, BTreeSet};

use destination_k8s::{Object, ObjectRef};

use super::services;

/// Sentences about objects that refer to nothing.
pub(super) fn lint<'a>(objects: impl Iterator<Item = &'a Object> + Clone) -> Vec<String> {
    let named = |object: &Object| {
        let meta = object.metadata();
        (
            meta.namespace.clone().unwrap_or_default(),
            meta.name.clone().unwrap_or_default(),
        )
    };
    let services: BTreeSet<_> = objects
        .clone()
        .filter(|o| matches!(o, Object::Service(_)))
        .map(named)
        .collect();
    let templates: Vec<_> = objects
        .clone()
        .filter_map(|object| Some((named(object).0, labels(object)?)))
        .collect();
    let mut found = Vec::new();
    for object in objects {
        let (namespace, name) = named(object);
        match object {
            Object::Service(service) => {
                let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
                let selected = |(other, labels): &(String, BTreeMap<String, String>)| {
                    *other == namespace && services::selects(service, labels)
                };
                if selector.is_some_and(|selector| !selector.is_empty()) && !templates.iter().any(selected) {
                    found.push(format!(
                        "Service {namespace}/{name}: its selector matches no pod, so it has no endpoints"
                    ));
                }
            }
            Object::TrafficSplit(split) => {
                let exists = |service: &str| {
                    let first = service.split('.').next().unwrap_or_default();
                    services.contains(&(namespace.clone(), first.to_owned()))
                };
                if !exists(&split.spec.service) {
                    let root = &split.spec.service;
                    found.push(format!(
                        "TrafficSplit {namespace}/{name}: there is no Service {namespace}/{root}"
                    ));
                }
                for backend in split.spec.backends.iter().filter(|backend| !exists(&backend.service)) {
                    let backend = &backend.service;
                    found.push(format!(
                        "TrafficSplit {namespace}/{name}: its backend {namespace}/{backend} does not exist"
                    ));
                }
            }
            Object::StatefulSet(_)
            | Object::DaemonSet(_)
            | Object::Job(_)
            | Object::CronJob(_)
            | Object::ReplicaSet(_) => {
                let reference = ObjectRef::new(object.kind(), &namespace, &name);
                found.push(format!(
                    "{reference}: it is not run; `mesh local` runs Deployments and Pods"
                ));
            }
            _ => {}
        }
    }
    found
}

/// The sentence about a folder without any object, most likely not the one that was meant.
pub(super) fn nothing(folder: &impl std::fmt::Display) -> String {
    format!(
        "{folder}: no object was found in it; files *.yaml, *.yml and *.json are read, now and whenever they change"
    )
}

fn labels(object: &Object) -> Option<BTreeMap<String, String>> {
    match object {
        Object::Deployment(deployment) => {
            let template = &deployment.spec.as_ref()?.template;
            Some(
                template
                    .metadata
                    .as_ref()
                    .and_then(|meta| meta.labels.clone())
                    .unwrap_or_default(),
            )
        }
        Object::Pod(pod) => Some(pod.metadata.labels.clone().unwrap_or_default()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_refers_to_nothing_is_told() {
        let objects: Vec<_> = [
            json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
                "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80 }] } }),
            json!({ "apiVersion": "split.smi-spec.io/v1alpha2", "kind": "TrafficSplit", "metadata": { "name": "s" },
                "spec": { "service": "web", "backends": [{ "service": "v2", "weight": 1 }] } }),
            json!({ "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "db" },
                "spec": { "selector": {}, "serviceName": "db", "template": { "spec": { "containers": [] } } } }),
        ]
        .into_iter()
        .map(|value| Object::from_value(value).expect("valid"))
        .collect();
        let sentences = lint(objects.iter());
        assert_eq!(sentences.len(), 3, "{sentences:?}");
        assert!(
            sentences[0].contains("default/web: its selector matches no pod"),
            "{sentences:?}"
        );
        assert!(
            sentences[1].contains("default/s: its backend default/v2 does not exist"),
            "{sentences:?}"
        );
        assert!(
            sentences[2].contains("StatefulSet default/db: it is not run"),
            "{sentences:?}"
        );
    }
}
