//! What is done to one object.

use anyhow::{Context, bail};
use destination_k8s::keys;
use injector_patch::{Injector, Namespace, Origin, Outcome, Reason, Report, Workload, edit, template_path};
use serde_json::{Value, json};

use super::report::Line;

/// How an object is injected.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The cluster does it, because an annotation says so.
    Annotate,
    /// Here and now.
    Manual,
}

/// What is done to objects.
pub(crate) struct Transform {
    pub(crate) mode: Mode,
    pub(crate) injector: Injector,
    /// What flags say.
    pub(crate) annotations: Vec<(String, String)>,
    /// The flag of this name; the only one that Services are told.
    pub(crate) opaque_ports: Option<String>,
}

impl Transform {
    /// Checks what flags say on a pod that could not be plainer, so that a wrong flag is one even if no object is injected.
    pub(crate) fn check_flags(&self) -> anyhow::Result<()> {
        let mut pod = json!({"kind": "Pod", "spec": {"containers": [{"name": "app"}]}});
        edit::annotate(&mut pod, &self.annotations);
        self.inject(&pod, &Namespace::default()).context("a flag is wrong")?;
        Ok(())
    }

    /// Injects an object; a sidecar that it has goes first.
    pub(crate) fn object(&self, object: &mut Value) -> anyhow::Result<Line> {
        let kind = object
            .get("kind")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        // Read before what an earlier injection left is taken out, which takes this annotation along.
        known_wish(object, &kind)?;
        edit::uninject(object);
        match kind.as_str() {
            "Namespace" => {
                edit::annotate(object, &self.wanted(Mode::Annotate));
                Ok(Line {
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
                Ok(Line {
                    annotated,
                    ..self.line(object)
                })
            }
            kind if template_path(kind).is_some() => self.workload(object),
            _ => Ok(self.line(object)),
        }
    }

    fn workload(&self, object: &mut Value) -> anyhow::Result<Line> {
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
        edit::annotate(object, &self.wanted(self.mode));
        let namespace = namespace(object);
        let outcome = self
            .inject(object, &namespace)
            .with_context(|| format!("failed to inject {}", report.resource()))?;
        if let (Mode::Manual, Outcome::Inject(_, patch)) = (self.mode, outcome) {
            patch.apply(object)?;
        }
        Ok(Line {
            injected: true,
            annotated: self.opaque_ports.is_some(),
            ..line
        })
    }

    /// What an object is annotated with; a namespace is the same way in both modes.
    fn wanted(&self, mode: Mode) -> Vec<(String, String)> {
        let mut wanted = self.annotations.clone();
        if mode == Mode::Annotate && !wanted.iter().any(|(key, _)| key == keys::INJECT) {
            wanted.push((keys::INJECT.to_owned(), keys::INJECT_ENABLED.to_owned()));
        }
        wanted
    }

    fn inject(&self, object: &Value, namespace: &Namespace) -> Result<Outcome, injector_patch::Error> {
        self.injector.inject(&Workload {
            object,
            namespace,
            owner: None,
            origin: Origin::Command,
        })
    }

    fn line(&self, object: &Value) -> Line {
        let namespace = namespace(object);
        let workload = Workload {
            object,
            namespace: &namespace,
            owner: None,
            origin: Origin::Command,
        };
        Line {
            report: self.injector.report(&workload),
            ..Line::default()
        }
    }
}

/// Refuses a wish that the webhook would not understand, rather than to write another one over it.
fn known_wish(object: &Value, kind: &str) -> anyhow::Result<()> {
    let path: &[&str] = if kind == "Namespace" {
        &[]
    } else {
        template_path(kind).unwrap_or_default()
    };
    let holder = path.iter().try_fold(object, |value, key| value.get(key));
    let wish = holder.and_then(|holder| holder.pointer("/metadata/annotations")?.get(keys::INJECT));
    let known = |wish: &Value| wish.as_str().is_some_and(|wish| keys::INJECT_VALUES.contains(&wish));
    if let Some(wish) = wish.filter(|wish| !known(wish)) {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        bail!(
            "failed to inject {}/{name}: the annotation {} is {wish}, but must be one of {}",
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

/// Takes the sidecar out of an object.
pub(crate) fn uninject(object: &mut Value) -> Line {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let name = object.get("metadata").and_then(|metadata| metadata.get("name"));
    let report = Report {
        kind: text(object.get("kind")),
        name: text(name),
        ..Report::default()
    };
    Line {
        uninjected: edit::uninject(object),
        report,
        ..Line::default()
    }
}
