//! Small edits of manifests: add annotations, so that the webhook injects; and remove a sidecar.

use destination_k8s::keys;
use injector_sidecar::{names, template_path};
use serde_json::{Map, Value, json};

/// Volumes that injection adds, upstream's included.
const VOLUMES: [&str; 4] = [
    names::IDENTITY_VOLUME,
    names::TOKEN_VOLUME,
    names::PODINFO_VOLUME,
    "linkerd-proxy-init-xtables-lock",
];
/// Containers that injection adds.
const CONTAINERS: [&str; 4] = [
    keys::PROXY_CONTAINER,
    names::INIT_CONTAINER,
    names::VALIDATOR_CONTAINER,
    names::DEBUG_CONTAINER,
];
/// Annotations that injection adds, besides those under `linkerd.io/`.
const OWN_ANNOTATIONS: [&str; 1] = [crate::annotations::TAP_ENABLED];

/// Sets annotations of an object's pod template, or of the object itself if it has none. Returns true if anything
/// changed.
pub fn annotate(object: &mut Value, annotations: &[(String, String)]) -> bool {
    if annotations.is_empty() {
        return false;
    }
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    let path = template_path(kind).unwrap_or_default();
    let Some(pod) = path
        .iter()
        .try_fold(object, |value, key| value.get_mut(key))
        .and_then(Value::as_object_mut)
    else {
        return false;
    };
    let Some(map) = map_of(pod, "metadata").and_then(|metadata| map_of(metadata, "annotations")) else {
        return false;
    };
    let mut changed = false;
    for (key, value) in annotations {
        let before = map.insert(key.clone(), value.clone().into());
        changed |= before.as_ref().and_then(Value::as_str) != Some(value);
    }
    changed
}

fn map_of<'a>(parent: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    let entry = parent.entry(key).or_insert_with(|| json!({}));
    if entry.is_null() {
        *entry = json!({});
    }
    entry.as_object_mut()
}

/// Removes what injection added. Settings (`config.linkerd.io/…`) and `linkerd.io/inject: disabled` stay: their author
/// set them. Returns true if anything changed.
pub fn uninject(object: &mut Value) -> bool {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    let path: &[&str] = match template_path(kind) {
        Some(path) => path,
        None if kind == "Namespace" => &[],
        None => return false,
    };
    let Some(pod) = path
        .iter()
        .try_fold(object, |value, key| value.get_mut(key))
        .and_then(Value::as_object_mut)
    else {
        return false;
    };
    let mut changed = false;
    if let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) {
        for key in ["containers", "initContainers"] {
            changed |= without(spec, key, &CONTAINERS);
        }
        changed |= without(spec, "volumes", &VOLUMES);
    }
    if let Some(metadata) = pod.get_mut("metadata").and_then(Value::as_object_mut) {
        for key in ["annotations", "labels"] {
            changed |= without_marks(metadata, key);
        }
        if metadata.is_empty() {
            pod.remove("metadata");
        }
    }
    changed
}

/// Removes elements of a list by name, and the list if it ends up empty.
fn without(spec: &mut Map<String, Value>, key: &str, names: &[&str]) -> bool {
    let Some(list) = spec.get_mut(key).and_then(Value::as_array_mut) else {
        return false;
    };
    let before = list.len();
    list.retain(|element| {
        !element
            .get("name")
            .and_then(Value::as_str)
            .is_some_and(|name| names.contains(&name))
    });
    let changed = list.len() != before;
    if changed && list.is_empty() {
        spec.remove(key);
    }
    changed
}

fn without_marks(metadata: &mut Map<String, Value>, key: &str) -> bool {
    let Some(map) = metadata.get_mut(key).and_then(Value::as_object_mut) else {
        return false;
    };
    let before = map.len();
    let is_mark = |key: &str, value: &Value| {
        let opt_out = key == keys::INJECT && value.as_str() == Some("disabled");
        // The component label was there before injection.
        let component = key == keys::CONTROL_PLANE_COMPONENT;
        (key.starts_with("linkerd.io/") || OWN_ANNOTATIONS.contains(&key)) && !opt_out && !component
    };
    map.retain(|key, value| !is_mark(key, value));
    let changed = map.len() != before;
    if changed && map.is_empty() {
        metadata.remove(key);
    }
    changed
}
