//! The cluster as it was when a scenario was recorded, and how it changed.

use std::{collections::HashMap, fs, path::Path};

use destination_index::{
    Config, Index,
    status::{Condition, Content},
};
use destination_k8s::{Kind, Object, ObjectRef, route::ParentRef};
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

fn json(file: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(file).expect("a file")).expect("JSON")
}

fn objects(dir: &Path) -> Vec<Object> {
    let cluster = json(&dir.join("cluster.json"));
    let mut objects = vec![];
    for (key, kind) in [
        ("pods", "Pod"),
        ("services", "Service"),
        ("endpointslices", "EndpointSlice"),
        ("replicasets", "ReplicaSet"),
        ("namespaces", "Namespace"),
        ("nodes", "Node"),
    ] {
        for value in cluster[key].as_array().into_iter().flatten() {
            objects.push(object(value.clone(), kind));
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
    for mut value in destination_yaml::all(&written).expect("YAML") {
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

fn object(mut value: Value, kind: &str) -> Object {
    value["kind"] = json!(kind);
    value["apiVersion"] = json!(match kind {
        "EndpointSlice" => "discovery.k8s.io/v1",
        "ReplicaSet" => "apps/v1",
        _ => "v1",
    });
    if kind == "Node" {
        value = json!({"kind": kind, "apiVersion": "v1", "metadata": value["metadata"]});
    }
    if kind == "ReplicaSet" {
        value["spec"] = json!({"selector": {}});
    }
    Object::from_value(value).expect("an object")
}

/// Changes while streams were open.
pub(crate) struct Timeline {
    /// When each step began; the first began with the recording.
    begins: Vec<u64>,
    /// When, and what: an event of the watch, or an object that a step applied or deleted.
    happened: Vec<(u64, Value)>,
    pods: HashMap<String, Value>,
}

impl Timeline {
    pub(crate) fn read(dir: &Path) -> Self {
        let mut happened: Vec<(u64, Value)> = vec![];
        let at = |value: &Value| value["at_ms"].as_u64().expect("a time");
        for event in json(&dir.join("events.json")).as_array().expect("events") {
            happened.push((at(event), event.clone()));
        }
        let mut begins = vec![0];
        for step in json(&dir.join("steps.json")).as_array().expect("steps") {
            begins.push(at(step));
            // The watch's events leave a pod's annotations out; the words of the step have them.
            if let Some(words) = step["did"].as_str().and_then(|did| did.strip_prefix("annotate pod ")) {
                let (pod, annotation) = words.split_once(' ').expect("a pod and an annotation");
                let (key, value) = annotation.split_once('=').expect("a key and a value");
                let annotations = json!({format!("config.linkerd.io/{key}"): value});
                let pod = json!({"metadata": {"name": pod, "annotations": annotations}});
                happened.push((at(step), json!({"type": "MODIFIED", "kind": "Pod", "object": pod})));
            }
            for object in step["objects"].as_array().into_iter().flatten() {
                let kind = if object["deleted"].is_null() {
                    "APPLIED"
                } else {
                    "REMOVED"
                };
                happened.push((at(step), json!({"type": kind, "object": object})));
            }
        }
        happened.sort_by_key(|(at, _)| *at);
        let pods = json(&dir.join("cluster.json"))["pods"]
            .as_array()
            .expect("pods")
            .clone();
        let name = |pod: &Value| pod["metadata"]["name"].as_str().expect("a name").to_owned();
        Self {
            begins,
            happened,
            pods: pods.into_iter().map(|pod| (name(&pod), pod)).collect(),
        }
    }

    pub(crate) fn last_step(&self) -> u64 {
        self.begins.len() as u64 - 1
    }

    /// Lets happen what happened from the beginning of `step` to the beginning of the next.
    pub(crate) fn apply(&mut self, step: u64, index: &mut Index) {
        let begin = self.begins[step as usize];
        let end = self.begins.get(step as usize + 1).copied().unwrap_or(u64::MAX);
        for (_, event) in self.happened.iter().filter(|(at, _)| (begin..end).contains(at)) {
            let value = event["object"].clone();
            let kind = event["kind"].as_str().unwrap_or_default();
            match event["type"].as_str().expect("a type") {
                "DELETED" => index.delete([object(whole(&mut self.pods, value, kind), kind).object_ref()]),
                "ADDED" | "MODIFIED" => index.apply([object(whole(&mut self.pods, value, kind), kind)]),
                // The watch has these kinds itself, as they really were.
                "APPLIED" if value["kind"] == "Service" => {}
                "REMOVED" if value["deleted"]["kind"] == "Service" => {}
                "APPLIED" => index.apply([Object::from_value(value).expect("an object")]),
                _ => index.delete([deleted(&value["deleted"])]),
            }
        }
    }
}

/// A pod's later events say only what may change; the rest is as before.
fn whole(pods: &mut HashMap<String, Value>, value: Value, kind: &str) -> Value {
    if kind != "Pod" {
        return value;
    }
    let name = value["metadata"]["name"].as_str().expect("a name").to_owned();
    let pod = pods.entry(name).or_insert_with(|| json!({}));
    for (key, part) in value.as_object().expect("an object") {
        if key == "metadata" {
            for (key, part) in part.as_object().expect("an object") {
                match (key.as_str(), part.as_object()) {
                    ("annotations", Some(more)) if pod["metadata"][key].is_object() => {
                        for (key, value) in more {
                            pod["metadata"]["annotations"][key] = value.clone();
                        }
                    }
                    _ => pod["metadata"][key] = part.clone(),
                }
            }
        } else {
            pod[key] = part.clone();
        }
    }
    pod.clone()
}

fn deleted(value: &Value) -> ObjectRef {
    let kind = kind(value);
    ObjectRef::new(kind, "changes", value["name"].as_str().expect("text"))
}

fn kind(value: &Value) -> Kind {
    let kinds = [
        Kind::HttpRoute,
        Kind::PolicyHttpRoute,
        Kind::GrpcRoute,
        Kind::TlsRoute,
        Kind::TcpRoute,
        Kind::Server,
        Kind::AuthorizationPolicy,
        Kind::MeshTlsAuthentication,
        Kind::ServiceProfile,
        Kind::HttpLocalRateLimitPolicy,
        Kind::EgressNetwork,
    ];
    let (version, kind) = (
        value["apiVersion"].as_str().expect("text"),
        value["kind"].as_str().expect("text"),
    );
    let is_it = |k: &Kind| k.as_str() == kind && k.api_versions().contains(&version);
    kinds
        .into_iter()
        .find(is_it)
        .unwrap_or_else(|| panic!("{version} {kind}"))
}

/// The statuses that upstream wrote.
pub(crate) fn statuses(dir: &Path, scenario: &str) -> Vec<(ObjectRef, Value)> {
    let cluster = json(&dir.join(scenario).join("cluster.json"));
    let statuses = cluster["statuses"].as_array().into_iter().flatten();
    let of = |value: &Value| {
        let text = |key: &str| value[key].as_str().expect("text");
        let object = ObjectRef::new(kind(value), text("namespace"), text("name"));
        (object, value["status"].clone())
    };
    statuses.map(of).collect()
}

/// Differences of statuses, without messages and times.
pub(crate) fn status_difference(theirs: &Value, ours: Option<&Content>) -> Option<String> {
    let mut theirs: Vec<String> = match theirs["parents"].as_array() {
        Some(parents) => parents.iter().flat_map(parent_conditions).collect(),
        None => conditions(&theirs["conditions"]),
    };
    let mut ours: Vec<String> = match ours {
        None => vec![],
        Some(Content::Route(parents)) => parents
            .iter()
            .flat_map(|found| {
                let parent = json!(found.parent);
                let said = found.conditions.iter().map(told);
                said.map(move |said| format!("{parent} {said}")).collect::<Vec<_>>()
            })
            .collect(),
        Some(Content::Policy(said, _)) => said.iter().map(told).collect(),
    };
    theirs.sort();
    ours.sort();
    (theirs != ours).then(|| format!("upstream:\n{}\nours:\n{}", theirs.join("\n"), ours.join("\n")))
}

fn parent_conditions(value: &Value) -> Vec<String> {
    let parent = serde_json::from_value::<ParentRef>(value["parentRef"].clone()).expect("a parent");
    let parent = json!(parent);
    let all = conditions(&value["conditions"]).into_iter();
    all.map(|said| format!("{parent} {said}")).collect()
}

fn conditions(all: &Value) -> Vec<String> {
    let text = |value: &Value, key: &str| value[key].as_str().expect("text").to_owned();
    let said = |c: &Value| format!("{}={} {}", text(c, "type"), text(c, "status"), text(c, "reason"));
    all.as_array().into_iter().flatten().map(said).collect()
}

fn told(c: &Condition) -> String {
    let holds = if c.holds { "True" } else { "False" };
    format!("{}={holds} {}", c.kind, c.reason)
}
