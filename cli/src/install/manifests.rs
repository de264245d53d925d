//! Manifests: rendered, in the order in which a cluster takes them, and written.

use std::io::Write as _;

use anyhow::Context as _;
use mesh_charts::{Chart, Release};
use serde::Deserialize as _;
use serde_json::Value;

/// Kinds that others need come first, those that need others last; what is not here comes in between.
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

/// How manifests are written.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// YAML, one document an object.
    #[default]
    Yaml,
    /// JSON, one line an object.
    Json,
}

/// An object, and its text as the chart has it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Manifest {
    /// Where in the chart it comes from.
    source: String,
    text: String,
    /// The object.
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
            let yaml = serde_yaml_ng::Deserializer::from_str(&text);
            let object = Value::deserialize(yaml).with_context(|| format!("{source} renders to no YAML"))?;
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

/// The documents of a stream; only a line of its own parts two.
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

/// Their text.
pub(crate) fn text(manifests: &[Manifest], output: Output) -> String {
    let one = |manifest: &Manifest| match output {
        Output::Yaml => format!("---\n# Source: {}\n{}\n", manifest.source, manifest.text.trim_end()),
        Output::Json => format!("{}\n", manifest.object),
    };
    manifests.iter().map(one).collect()
}

/// Objects that have no text of their own.
pub(crate) fn of_objects(objects: &[Value], output: Output) -> anyhow::Result<String> {
    let mut text = String::new();
    for object in objects {
        text += &match output {
            Output::Yaml => format!("---\n{}", serde_yaml_ng::to_string(object)?),
            Output::Json => format!("{object}\n"),
        };
    }
    Ok(text)
}

/// Writes to stdout. Everything is worked out before the first byte, so that `kubectl apply` never gets half of it.
pub(crate) fn write(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("cannot write the manifests")
}
