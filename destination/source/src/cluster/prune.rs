//! Prunes objects to the parts that the mesh reads, before they are compared and kept: a node's heartbeat or another
//! controller's status is then not a change.

use destination_k8s::{Kind, keys::PROXY_CONTAINER};
use serde_json::{Map, Value};

/// Metadata that the mesh reads.
const METADATA: &[&str] = &[
    "name",
    "namespace",
    "labels",
    "annotations",
    "uid",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "ownerReferences",
];
/// Annotations that are long or change all the time, and mean nothing to the mesh.
const NOISE: &[&str] = &[
    "kubectl.kubernetes.io/last-applied-configuration",
    "endpoints.kubernetes.io/last-change-trigger-time",
    "deployment.kubernetes.io/desired-replicas",
    "deployment.kubernetes.io/max-replicas",
];
const POD_SPEC: &[&str] = &[
    "containers",
    "initContainers",
    "nodeName",
    "serviceAccountName",
    "hostNetwork",
];
const POD_STATUS: &[&str] = &["phase", "podIP", "podIPs", "hostIP", "conditions"];
const CONTAINER: &[&str] = &[
    "name",
    "ports",
    "env",
    "restartPolicy",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
];

/// Prunes an object of `kind`.
pub(super) fn prune(kind: Kind, object: &mut Value) {
    let Value::Object(object) = object else { return };
    if let Some(metadata) = map(object, "metadata") {
        prune_metadata(kind, metadata);
    }
    match kind {
        Kind::Pod => prune_pod(object),
        Kind::ConfigMap | Kind::Secret | Kind::EndpointSlice => {}
        _ => {
            object.remove("status");
        }
    }
}

/// Prunes the parts that no kind needs, while a list is read, so that it is never held as a whole.
pub(super) fn prune_first(object: &mut Value) {
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.remove("managedFields");
    }
}

fn map<'a>(object: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    object.get_mut(key)?.as_object_mut()
}

fn keep(object: &mut Map<String, Value>, keys: &[&str]) {
    object.retain(|key, _| keys.contains(&key.as_str()));
}

fn prune_metadata(kind: Kind, metadata: &mut Map<String, Value>) {
    keep(metadata, METADATA);
    // Controllers annotate nodes and slices all the time; the mesh reads only their labels.
    if matches!(kind, Kind::Node | Kind::EndpointSlice) {
        metadata.remove("annotations");
        metadata.remove("ownerReferences");
        metadata.remove("generation");
    }
    // A workload has a new generation with each step of a rollout.
    if super::kinds::is_metadata_only(kind) {
        metadata.remove("generation");
    }
    if let Some(annotations) = map(metadata, "annotations") {
        annotations.retain(|key, _| !NOISE.contains(&key.as_str()));
    }
}

fn prune_pod(pod: &mut Map<String, Value>) {
    if let Some(spec) = map(pod, "spec") {
        keep(spec, POD_SPEC);
        for list in ["containers", "initContainers"] {
            let Some(containers) = spec.get_mut(list).and_then(Value::as_array_mut) else {
                continue;
            };
            if list == "initContainers" {
                // Init containers that end are not endpoints.
                containers.retain(|c| c["restartPolicy"] == "Always" || c["name"] == PROXY_CONTAINER);
            }
            for container in containers.iter_mut().filter_map(Value::as_object_mut) {
                prune_container(container);
            }
        }
    }
    if let Some(status) = map(pod, "status") {
        keep(status, POD_STATUS);
        if let Some(conditions) = status.get_mut("conditions").and_then(Value::as_array_mut) {
            conditions.retain(|condition| condition["type"] == "Ready");
            for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
                keep(condition, &["type", "status"]);
            }
        }
    }
}

fn prune_container(container: &mut Map<String, Value>) {
    keep(container, CONTAINER);
    // Environments of other containers may hold secrets, and the mesh doesn't read them.
    if container.get("name").is_none_or(|name| name != PROXY_CONTAINER) {
        container.remove("env");
    }
    if let Some(env) = container.get_mut("env").and_then(Value::as_array_mut) {
        env.retain(|var| var.get("value").is_some());
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(of_probe) = map(container, probe) else {
            continue;
        };
        keep(of_probe, &["httpGet"]);
        if of_probe.is_empty() {
            container.remove(probe);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pruned(kind: Kind, mut object: Value) -> Value {
        prune(kind, &mut object);
        object
    }

    #[test]
    fn keeps_the_parts_of_a_pod_that_the_mesh_reads() {
        let pod = json!({
            "metadata": {"name": "p", "namespace": "a", "resourceVersion": "7", "managedFields": [{}],
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b"}},
            "spec": {"nodeName": "n", "volumes": [{}], "containers": [
                    {"name": "app", "image": "i", "env": [{"name": "PASSWORD", "value": "secret"}],
                        "ports": [{"containerPort": 80}],
                        "livenessProbe": {"httpGet": {"path": "/live", "port": 80}, "periodSeconds": 1},
                        "readinessProbe": {"exec": {"command": ["true"]}}},
                ], "initContainers": [
                    {"name": "migrate"},
                    {"name": "linkerd-proxy", "restartPolicy": "Always",
                        "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {}}]},
                ]},
            "status": {"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": [{}], "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "now"}, {"type": "Initialized"}]},
        });
        assert_eq!(
            pruned(Kind::Pod, pod),
            json!({
                "metadata": {"name": "p", "namespace": "a", "annotations": {"a": "b"}},
                "spec": {"nodeName": "n", "containers": [
                        {"name": "app", "ports": [{"containerPort": 80}],
                            "livenessProbe": {"httpGet": {"path": "/live", "port": 80}}},
                    ], "initContainers": [
                        {"name": "linkerd-proxy", "restartPolicy": "Always", "env": [{"name": "A", "value": "1"}]},
                    ]},
                "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [
                    {"type": "Ready", "status": "True"}]},
            })
        );
    }

    #[test]
    fn heartbeats_and_statuses_are_not_changes() {
        let node = |version: &str| {
            json!({"metadata": {"name": "n", "resourceVersion": version, "annotations": {"beat": version},
            "labels": {"topology.kubernetes.io/zone": "z"}}})
        };
        assert_eq!(pruned(Kind::Node, node("1")), pruned(Kind::Node, node("2")));
        let route = |status: &str| json!({"metadata": {"name": "r"}, "spec": {}, "status": {"parents": status}});
        assert_eq!(pruned(Kind::HttpRoute, route("a")), pruned(Kind::HttpRoute, route("b")));
    }
}
