//! Manifests: rendered, in the order in which a cluster accepts them, and written.

use anyhow::Context as _;
use mesh_charts::{Chart, Release};
use serde_json::Value;

use crate::output::DocumentFormat;

/// Kinds that others depend on come first, those that depend on others last, all others in between.
const FIRST: [&str; 10] = [
    "Namespace",
    "CustomResourceDefinition",
    "ServiceAccount",
    "Secret",
    "ConfigMap",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "Service",
];
const LAST: [&str; 3] = [
    "APIService",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
];

/// Object, with its text as rendered by the chart.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Manifest {
    /// Template in the chart.
    source: String,
    text: String,
    /// Parsed object.
    pub(crate) object: Value,
}

/// Renders a chart for a namespace.
pub(crate) fn render(chart: Chart, namespace: &str, values: &Value) -> anyhow::Result<Vec<Manifest>> {
    let release = Release {
        name: "mesh".to_owned(),
        namespace: namespace.to_owned(),
        service: "CLI".to_owned(),
    };
    let mut manifests = Vec::new();
    for (file, text) in mesh_charts::render(chart, &release, values)? {
        let source = format!("{}/templates/{file}", chart.name());
        for text in documents(&text) {
            let object = destination_yaml::one(&text).with_context(|| format!("cannot parse what {source} renders"))?;
            if !object.is_null() {
                let source = source.clone();
                manifests.push(Manifest { source, text, object });
            }
        }
    }
    manifests.sort_by_key(|manifest| rank(manifest.object["kind"].as_str().unwrap_or_default()));
    Ok(manifests)
}

fn rank(kind: &str) -> usize {
    let of = |list: &[&str]| list.iter().position(|other| *other == kind);
    of(&FIRST)
        .or_else(|| of(&LAST).map(|place| FIRST.len() + 1 + place))
        .unwrap_or(FIRST.len())
}

/// Splits a stream into documents, at lines that consist of `---`.
fn documents(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        if line.trim_end() == "---" {
            documents.push(String::new());
        } else if let Some(last) = documents.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    documents.retain(|document| !document.trim().is_empty());
    documents
}

/// Writes rendered manifests as text.
pub(crate) fn text(manifests: &[Manifest], output: DocumentFormat) -> String {
    let one = |manifest: &Manifest| match output {
        DocumentFormat::Yaml => format!("---\n# Source: {}\n{}\n", manifest.source, manifest.text.trim_end()),
        DocumentFormat::Json => format!("{}\n", manifest.object),
    };
    manifests.iter().map(one).collect()
}

/// Writes objects as text.
pub(crate) fn objects_text(objects: &[Value], output: DocumentFormat) -> anyhow::Result<String> {
    let mut text = String::new();
    for object in objects {
        text += &match output {
            DocumentFormat::Yaml => format!("---\n{}", destination_yaml::write(object)),
            DocumentFormat::Json => format!("{object}\n"),
        };
    }
    Ok(text)
}
