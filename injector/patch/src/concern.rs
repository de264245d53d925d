//! Warnings about the annotations of a namespace or workload, raised when they are written and not only when a pod is
//! rejected.

use destination_k8s::keys;
use injector_sidecar::{Namespace, Origin, Reason, annotations as a, template, template_path};
use serde_json::{Value, json};

use crate::inject::{Injector, Outcome, Workload};

impl Injector {
    /// Returns warnings about a workload or namespace, one sentence each.
    pub fn concerns(&self, object: &Value) -> Vec<String> {
        let kind = object["kind"].as_str().unwrap_or_default();
        if kind == "Namespace" {
            return self.namespace_concerns(object);
        }
        let Some(template) = template_path(kind).and_then(|path| template(object, path)) else {
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
            Err(error) => concerns.push(format!("{error}; its pods will be rejected")),
            Ok(Outcome::Skip(report)) if report.annotation_at == "workload" => {
                let notable = report.reasons.iter().any(Reason::is_notable);
                let reasons = report.sentence();
                concerns.extend(notable.then(|| format!("its pods will not be injected: {reasons}")));
            }
            Ok(_) => {}
        }
        concerns
    }

    fn namespace_concerns(&self, object: &Value) -> Vec<String> {
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
                "invalid annotation {}: {other:?} is not one of {}; nothing will be injected",
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
            concerns.push(format!("{error}; its pods will be rejected"));
        }
        concerns
    }
}

/// Settings that injection does not recognize.
fn unknown(annotations: &Value) -> Vec<String> {
    let keys = annotations.as_object().into_iter().flatten().map(|(key, _)| key);
    let unknown = keys.filter(|key| a::is_setting(key) && !a::is_known(key));
    unknown
        .map(|key| format!("unknown annotation {key}; it has no effect"))
        .collect()
}
