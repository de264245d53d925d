//! The cluster as it was when a scenario was recorded.

use std::{collections::HashMap, fs, path::Path};

use destination_index::{Config, Index};
use destination_k8s::Object;
use serde::Deserialize;
use serde_json::{Value, json};

/// Objects that `cluster.json` has as they really were; in `objects.yaml` they are as they were written.
const AS_THEY_WERE: [&str; 5] = ["Pod", "Service", "EndpointSlice", "Namespace", "ReplicaSet"];

pub(crate) fn index(dir: &Path, scenario: &str) -> Index {
    let mut index = Index::new(Config::default());
    // Some scenarios refer to a Service of the first one.
    for scenario in ["plain", scenario] {
        index.apply(objects(&dir.join(scenario)));
    }
    index
}

pub(crate) fn objects(dir: &Path) -> Vec<Object> {
    let cluster: Value =
        serde_json::from_str(&fs::read_to_string(dir.join("cluster.json")).expect("cluster.json")).expect("JSON");
    let mut objects = vec![];
    for (key, kind, version) in [
        ("pods", "Pod", "v1"),
        ("services", "Service", "v1"),
        ("endpointslices", "EndpointSlice", "discovery.k8s.io/v1"),
        ("replicasets", "ReplicaSet", "apps/v1"),
        ("namespaces", "Namespace", "v1"),
        ("nodes", "Node", "v1"),
    ] {
        for value in cluster[key].as_array().into_iter().flatten() {
            objects.push(object(value.clone(), kind, version));
        }
    }
    let mut created = HashMap::new();
    for value in cluster["created"].as_array().into_iter().flatten() {
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        created.insert(
            (text("kind"), text("namespace"), text("name")),
            text("creationTimestamp"),
        );
    }
    let written = fs::read_to_string(dir.join("objects.yaml")).expect("objects.yaml");
    for document in serde_yaml_ng::Deserializer::from_str(&written) {
        let mut value = Value::deserialize(document).expect("YAML");
        let kind = value["kind"].as_str().unwrap_or_default().to_owned();
        if AS_THEY_WERE.contains(&kind.as_str()) {
            continue;
        }
        let text = |key: &str| value["metadata"][key].as_str().unwrap_or_default().to_owned();
        if let Some(time) = created.get(&(kind, text("namespace"), text("name"))) {
            value["metadata"]["creationTimestamp"] = json!(time);
        }
        // Kinds that the slice does not read are as if they were not there.
        objects.extend(Object::from_value(value).ok());
    }
    objects
}

pub(crate) fn object(mut value: Value, kind: &str, version: &str) -> Object {
    value["kind"] = json!(kind);
    value["apiVersion"] = json!(version);
    if kind == "Node" {
        value = json!({"kind": kind, "apiVersion": version, "metadata": value["metadata"]});
    }
    if kind == "ReplicaSet" {
        value["spec"] = json!({"selector": {}});
    }
    Object::from_value(value).expect("an object")
}
