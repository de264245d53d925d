//! Warnings about manifests that are valid but surely not meant. Pure.

use std::collections::BTreeMap;

use destination_index::{Config, Index};
use destination_k8s::{Object, ObjectRef, selector};
use injector_sidecar::annotations;

/// Settings of a sidecar that act through Kubernetes alone.
const KUBERNETES_ONLY: [&str; 15] = [
    annotations::PROXY_IMAGE,
    annotations::PROXY_VERSION,
    annotations::IMAGE_PULL_POLICY,
    annotations::DEBUG_IMAGE,
    annotations::DEBUG_IMAGE_VERSION,
    annotations::DEBUG_IMAGE_PULL_POLICY,
    annotations::ENABLE_DEBUG_SIDECAR,
    annotations::PROXY_CPU_REQUEST,
    annotations::PROXY_MEMORY_REQUEST,
    annotations::PROXY_MEMORY_LIMIT,
    annotations::PROXY_EPHEMERAL_STORAGE_REQUEST,
    annotations::PROXY_EPHEMERAL_STORAGE_LIMIT,
    annotations::PROXY_UID,
    annotations::PROXY_GID,
    annotations::CLOSE_WAIT_TIMEOUT,
];

/// Warnings about objects with dangling references, without effect, or with features that are not supported here.
pub(crate) fn lint<'a>(objects: impl Iterator<Item = &'a Object> + Clone) -> Vec<String> {
    let named = |object: &Object| {
        let meta = object.metadata();
        (
            meta.namespace.clone().unwrap_or_default(),
            meta.name.clone().unwrap_or_default(),
        )
    };
    let templates: Vec<_> = objects
        .clone()
        .filter_map(|object| Some((named(object).0, labels(object)?)))
        .collect();
    let mut found = problems(objects.clone());
    for object in objects {
        found.extend(ineffective(object));
        let (namespace, name) = named(object);
        match object {
            Object::Service(service) => {
                let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
                let selected = |(other, labels): &(String, BTreeMap<String, String>)| {
                    *other == namespace && selector::selects(selector, Some(labels))
                };
                if selector.is_some_and(|selector| !selector.is_empty()) && !templates.iter().any(selected) {
                    found.push(format!(
                        "Service {namespace}/{name}: its selector matches no pod, so it has no endpoints"
                    ));
                }
            }
            Object::StatefulSet(_)
            | Object::DaemonSet(_)
            | Object::Job(_)
            | Object::CronJob(_)
            | Object::ReplicaSet(_) => {
                let reference = ObjectRef::new(object.kind(), &namespace, &name);
                found.push(format!("{reference}: not run; `mesh local` runs Deployments and Pods"));
            }
            _ => {}
        }
    }
    found
}

/// Problems that the control plane would only log.
fn problems<'a>(objects: impl Iterator<Item = &'a Object>) -> Vec<String> {
    let mut index = Index::new(Config::default());
    index.apply(objects.cloned());
    index.problems().iter().map(ToString::to_string).collect()
}

/// Warnings about settings of the sidecar that have no effect.
fn ineffective(object: &Object) -> Vec<String> {
    let annotations = match object {
        Object::Deployment(deployment) => {
            let template = deployment
                .spec
                .as_ref()
                .and_then(|spec| spec.template.metadata.as_ref());
            template.and_then(|meta| meta.annotations.as_ref())
        }
        Object::Pod(_) | Object::Namespace(_) => object.metadata().annotations.as_ref(),
        _ => None,
    };
    let keys = annotations.into_iter().flat_map(BTreeMap::keys);
    let reason = |key: &str| {
        if KUBERNETES_ONLY.contains(&key) {
            Some("has no effect without Kubernetes")
        } else if annotations::is_setting(key) && !annotations::is_known(key) {
            Some("is not an annotation that the mesh reads")
        } else {
            None
        }
    };
    keys.filter_map(|key| Some(format!("{}: {key} {}", object.object_ref(), reason(key)?)))
        .collect()
}

/// Warning about a folder without any object, most likely the wrong one.
pub(crate) fn nothing(folder: &impl std::fmt::Display) -> String {
    format!("{folder}: no objects found; files *.yaml, *.yml and *.json are read, now and whenever they change")
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
    fn warns_of_dangling_references_and_unsupported_features() {
        let objects: Vec<_> = [
            json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
                "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80 }] } }),
            json!({ "apiVersion": "split.smi-spec.io/v1alpha2", "kind": "TrafficSplit", "metadata": { "name": "t" },
                "spec": { "service": "web", "backends": [{ "service": "v2", "weight": 1 }] } }),
            json!({ "apiVersion": "split.smi-spec.io/v1alpha3", "kind": "TrafficSplit", "metadata": { "name": "s" },
                "spec": { "service": "web", "backends": [{ "service": "web", "weight": 1 }],
                    "matches": [{ "kind": "HTTPRouteGroup", "name": "g" }] } }),
            json!({ "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "db" },
                "spec": { "selector": {}, "serviceName": "db", "template": { "spec": { "containers": [] } } } }),
            json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p", "annotations": {
                "config.linkerd.io/access-log": "json", "config.linkerd.io/proxy-image": "x", "config.linkerd.io/typo": "y" } },
                "spec": { "containers": [] } }),
        ]
        .into_iter()
        .map(|value| Object::from_value(value).expect("valid"))
        .collect();
        let sentences = lint(objects.iter());
        let expected = [
            "TrafficSplit default/s: spec.matches is not supported yet, so the split has no effect",
            "TrafficSplit default/t: the backend default/v2 does not exist, so default/web itself receives its share",
            "Service default/web: its selector matches no pod, so it has no endpoints",
            "StatefulSet default/db: not run; `mesh local` runs Deployments and Pods",
            "Pod default/p: config.linkerd.io/proxy-image has no effect without Kubernetes",
            "Pod default/p: config.linkerd.io/typo is not an annotation that the mesh reads",
        ];
        assert_eq!(sentences, expected);
    }
}
