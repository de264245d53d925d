//! What is wrong with a namespace's or a workload's annotations, told when they are written and not only when a pod is refused
//! for them.

use destination_k8s::keys;
use serde_json::{Value, json};

use crate::{
    annotations::{self as a, Namespace},
    inject::{Injector, Outcome, Workload},
    pod,
    report::Origin,
};

impl Injector {
    /// Concerns about an object that holds a pod, or about a namespace; each is one sentence.
    pub fn concerns(&self, object: &Value) -> Vec<String> {
        let kind = object["kind"].as_str().unwrap_or_default();
        if kind == "Namespace" {
            return self.concerns_of_namespace(object);
        }
        let Some(template) = pod::template_path(kind).and_then(|path| pod::template(object, path)) else {
            return vec![];
        };
        let mut concerns = unknown(&template["metadata"]["annotations"]);
        let nowhere = Namespace::default();
        let workload = Workload {
            object,
            namespace: &nowhere,
            owner: None,
            origin: Origin::Command,
        };
        match self.inject(&workload) {
            Err(error) => concerns.push(format!("{error}; its pods will be refused")),
            Ok(Outcome::Skip(report)) if report.annotation_at == "workload" => {
                let notable = report.reasons.iter().any(crate::Reason::is_notable);
                let why = report.sentence();
                concerns.extend(notable.then(|| format!("its pods will have no sidecar: {why}")));
            }
            Ok(_) => {}
        }
        concerns
    }

    fn concerns_of_namespace(&self, object: &Value) -> Vec<String> {
        let annotations = &object["metadata"]["annotations"];
        let mut concerns = unknown(annotations);
        let texts = annotations.as_object().into_iter().flatten();
        let namespace = Namespace {
            name: object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
            annotations: texts
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect(),
        };
        let inject = namespace.annotations.get(keys::INJECT).map(String::as_str);
        if let Some(other) = inject.filter(|value| !keys::INJECT_VALUES.contains(value)) {
            concerns.push(format!(
                "the annotation {}: {other:?} is none of {}; nothing will be injected",
                keys::INJECT,
                keys::INJECT_VALUES.join(", ")
            ));
        }
        let plain = json!({"kind": "Pod", "metadata": {"name": "any"}, "spec": {"containers": [{"name": "app"}]}});
        let workload = Workload {
            object: &plain,
            namespace: &namespace,
            owner: None,
            origin: Origin::Command,
        };
        if let Err(error) = self.inject(&workload) {
            concerns.push(format!("{error}; pods in it will be refused"));
        }
        concerns
    }
}

/// Annotations that look like ours and are none.
fn unknown(annotations: &Value) -> Vec<String> {
    let keys = annotations.as_object().into_iter().flatten().map(|(key, _)| key);
    let unknown = keys.filter(|key| a::is_of_config(key) && !a::is_known(key));
    unknown
        .map(|key| format!("the annotation {key} is none that the mesh knows, so it says nothing"))
        .collect()
}
