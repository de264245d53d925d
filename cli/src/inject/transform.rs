//! Transformation of one object.

use anyhow::{Context, bail};
use destination_k8s::keys;
use injector_patch::{Injector, Namespace, Origin, Outcome, Reason, Report, Workload, edit, template_path};
use serde_json::{Value, json};

use super::report::ObjectResult;

/// Injection mode.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Adds the annotation that requests injection by the cluster.
    Annotate,
    /// Adds the sidecar itself.
    Manual,
}

/// Transformation of objects, as configured by flags.
pub(crate) struct Transform {
    pub(crate) mode: Mode,
    pub(crate) injector: Injector,
    /// Annotations that correspond to flags.
    pub(crate) annotations: Vec<(String, String)>,
    /// Value of --opaque-ports, the only flag that applies to Services.
    pub(crate) opaque_ports: Option<String>,
}

impl Transform {
    /// Validates the flags on a minimal pod, so that an invalid flag is reported even if no object is injected.
    pub(crate) fn check_flags(&self) -> anyhow::Result<()> {
        let mut pod = json!({"kind": "Pod", "spec": {"containers": [{"name": "app"}]}});
        edit::annotate(&mut pod, &self.annotations);
        self.inject(&pod, &Namespace::default()).context("invalid flag")?;
        Ok(())
    }

    /// Injects an object, after removing an existing sidecar.
    pub(crate) fn object(&self, object: &mut Value) -> anyhow::Result<ObjectResult> {
        let kind = object
            .get("kind")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        // Before the result of an earlier injection is removed, together with this annotation.
        check_inject_value(object, &kind)?;
        edit::uninject(object);
        match kind.as_str() {
            "Namespace" => {
                edit::annotate(object, &self.annotations_for(Mode::Annotate));
                Ok(ObjectResult {
                    annotated: true,
                    ..self.line(object)
                })
            }
            "Service" => {
                let opaque = self
                    .opaque_ports
                    .iter()
                    .map(|ports| (keys::OPAQUE_PORTS.to_owned(), ports.clone()));
                let annotated = edit::annotate(object, &opaque.collect::<Vec<_>>()) || self.opaque_ports.is_some();
                Ok(ObjectResult {
                    annotated,
                    ..self.line(object)
                })
            }
            kind if template_path(kind).is_some() => self.workload(object),
            _ => Ok(self.line(object)),
        }
    }

    fn workload(&self, object: &mut Value) -> anyhow::Result<ObjectResult> {
        let line = self.line(object);
        let report = &line.report;
        if !report.is_injectable() {
            let explicit = report.annotation_at == "workload" && !report.reasons.contains(&Reason::Disabled);
            if explicit {
                bail!("failed to inject {}: {}", report.resource(), report.sentence());
            }
            return Ok(line);
        }
        let path = template_path(&report.kind).unwrap_or_default();
        let template = path
            .iter()
            .try_fold(&*object, |value, key| value.get(key))
            .unwrap_or(&Value::Null);
        let component = &template["metadata"]["labels"][keys::CONTROL_PLANE_COMPONENT];
        if self.mode == Mode::Annotate && !component.is_null() {
            bail!("--manual must be set when injecting control plane components");
        }
        edit::annotate(object, &self.annotations_for(self.mode));
        let namespace = namespace(object);
        let outcome = self
            .inject(object, &namespace)
            .with_context(|| format!("failed to inject {}", report.resource()))?;
        if let (Mode::Manual, Outcome::Inject(_, patch)) = (self.mode, outcome) {
            patch.apply(object)?;
        }
        Ok(ObjectResult {
            injected: true,
            annotated: self.opaque_ports.is_some(),
            ..line
        })
    }

    /// Annotations of an object in a mode; namespaces are annotated in both modes.
    fn annotations_for(&self, mode: Mode) -> Vec<(String, String)> {
        let mut annotations = self.annotations.clone();
        if mode == Mode::Annotate && !annotations.iter().any(|(key, _)| key == keys::INJECT) {
            annotations.push((keys::INJECT.to_owned(), keys::INJECT_ENABLED.to_owned()));
        }
        annotations
    }

    fn inject(&self, object: &Value, namespace: &Namespace) -> Result<Outcome, injector_patch::Error> {
        self.injector.inject(&Workload {
            object,
            namespace,
            owner: None,
            origin: Origin::Command,
        })
    }

    fn line(&self, object: &Value) -> ObjectResult {
        let namespace = namespace(object);
        let workload = Workload {
            object,
            namespace: &namespace,
            owner: None,
            origin: Origin::Command,
        };
        ObjectResult {
            report: self.injector.report(&workload),
            ..ObjectResult::default()
        }
    }
}

/// Rejects a value of the inject annotation that the webhook would not understand, rather than overwriting it.
fn check_inject_value(object: &Value, kind: &str) -> anyhow::Result<()> {
    let path: &[&str] = if kind == "Namespace" {
        &[]
    } else {
        template_path(kind).unwrap_or_default()
    };
    let holder = path.iter().try_fold(object, |value, key| value.get(key));
    let value = holder.and_then(|holder| holder.pointer("/metadata/annotations")?.get(keys::INJECT));
    let known = |value: &Value| value.as_str().is_some_and(|value| keys::INJECT_VALUES.contains(&value));
    if let Some(value) = value.filter(|value| !known(value)) {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        bail!(
            "failed to inject {}/{name}: invalid annotation {}: {value}: must be one of {}",
            kind.to_lowercase(),
            keys::INJECT,
            keys::INJECT_VALUES.join(", ")
        );
    }
    Ok(())
}

fn namespace(object: &Value) -> Namespace {
    let name = object
        .get("metadata")
        .and_then(|metadata| metadata.get("namespace")?.as_str())
        .unwrap_or_default();
    Namespace {
        name: name.to_owned(),
        ..Namespace::default()
    }
}

/// Removes the sidecar from an object.
pub(crate) fn uninject(object: &mut Value) -> ObjectResult {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let name = object.get("metadata").and_then(|metadata| metadata.get("name"));
    let report = Report {
        kind: text(object.get("kind")),
        name: text(name),
        ..Report::default()
    };
    ObjectResult {
        uninjected: edit::uninject(object),
        report,
        ..ObjectResult::default()
    }
}
