//! Validation of the mesh's resources before they are stored: a rejection with field and reason for invalid ones, a
//! warning for those that are stored but do less than they seem to.
//!
//! Routes of the Gateway API serve other controllers as well: only those with a parent of the mesh are validated, and
//! unsupported features are warnings.

use destination_index::Faults;
use destination_k8s::{Invalid, Kind, Object, keys, route::ParentRef};
use injector_patch::Injector;
use serde_json::Value;

use crate::cluster::Cluster;

/// Group that some guides name and no release of Linkerd ever served.
const WRONG_GROUP: &str = "security.linkerd.io";
/// Groups whose every object is the mesh's to judge.
const OURS: [&str; 5] = [
    keys::POLICY_GROUP,
    keys::PROFILE_GROUP,
    keys::SPLIT_GROUP,
    keys::ACCESS_GROUP,
    keys::SPECS_GROUP,
];
/// Unknown fields that a message names.
const NAMED_MAX: usize = 5;

/// Verdict on an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Valid, with warnings.
    Allowed(Vec<String>),
    /// Invalid, with the reason.
    Rejected(String),
}

/// Result of a validation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judged {
    /// Label of the kind in metrics.
    pub(crate) kind: &'static str,
    pub(crate) verdict: Verdict,
    /// A warning rests on a Service that the watch may not have delivered yet.
    pub(crate) lacks_service: bool,
}

/// Validator of the objects in one request.
#[derive(Copy, Clone)]
pub(crate) struct Validator<'a> {
    pub(crate) group: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) injector: &'a Injector,
    pub(crate) cluster: &'a Cluster,
}

impl Validator<'_> {
    /// Returns true if objects of a kind in the request's group are validated.
    pub(crate) fn reviews(self, kind: &str) -> bool {
        match self.group {
            WRONG_GROUP | keys::GATEWAY_GROUP => true,
            group if OURS.contains(&group) => true,
            _ => kind == "Namespace" || injector_patch::template_path(kind).is_some(),
        }
    }

    /// Judges an object; null is a deletion.
    pub(crate) fn judge(self, object: Value) -> Judged {
        let missing = self.missing_services(&object);
        let lacks_service = !missing.is_empty();
        let (kind, mut verdict) = self.verdict(object);
        if let Verdict::Allowed(warnings) = &mut verdict {
            warnings.extend(missing);
        }
        Judged {
            kind,
            verdict,
            lacks_service,
        }
    }

    fn verdict(self, object: Value) -> (&'static str, Verdict) {
        match self.group {
            _ if object.is_null() => ("", Verdict::Allowed(vec![])),
            WRONG_GROUP => ("", wrong_group(&object)),
            group if OURS.contains(&group) => self.ours(object),
            keys::GATEWAY_GROUP => self.gateway(object),
            _ => ("Annotations", Verdict::Allowed(self.injector.concerns(&object))),
        }
    }

    /// Completes an object as it will be stored: in the request's namespace.
    fn placed(self, mut object: Value) -> Value {
        if let Some(metadata) = object["metadata"].as_object_mut()
            && !self.namespace.is_empty()
        {
            metadata.insert("namespace".to_owned(), self.namespace.into());
            // Admission precedes the API server's name generation.
            if let Some(base) = metadata
                .get("generateName")
                .and_then(Value::as_str)
                .map(|base| format!("{base}x"))
            {
                metadata.entry("name").or_insert_with(|| base.into());
            }
        }
        object
    }

    fn ours(self, object: Value) -> (&'static str, Verdict) {
        let object = self.placed(object);
        let unknown = Object::unknown_fields(&object);
        let read = match Object::from_value(object) {
            Ok(read) => read,
            Err(invalid) => return (kind_of(&invalid), Verdict::Rejected(invalid.to_string())),
        };
        let kind = read.kind().as_str();
        let rejected = |reason: String| (kind, Verdict::Rejected(format!("{}: {reason}", read.object_ref())));
        if !unknown.is_empty() {
            let named: Vec<_> = unknown.iter().take(NAMED_MAX).map(ToString::to_string).collect();
            let fields = if unknown.len() == 1 { "field" } else { "fields" };
            return rejected(format!("unknown {fields} {}", named.join(", ")));
        }
        let faults = Faults::from_object(&read);
        if let Some(reason) = faults.annotations.into_iter().chain(faults.content).next() {
            return rejected(reason);
        }
        (kind, Verdict::Allowed(self.warnings(&read)))
    }

    fn warnings(self, object: &Object) -> Vec<String> {
        let domain = &self.injector.config().cluster_domain;
        match object {
            Object::TrafficSplit(split) if !split.spec.matches.is_empty() => {
                vec!["spec.matches is not supported yet, so the split has no effect".to_owned()]
            }
            Object::ServiceProfile(_) if !object.name().contains('.') => {
                let (name, namespace) = (object.name(), object.namespace());
                vec![format!(
                    "the profile {name} has no effect: its name must be that of its Service ({name}.{namespace}.svc.{domain})"
                )]
            }
            _ => vec![],
        }
    }

    /// Returns warnings about Services that a TrafficSplit names and that do not exist.
    fn missing_services(self, object: &Value) -> Vec<String> {
        let spec = &object["spec"];
        if self.group != keys::SPLIT_GROUP || self.namespace.is_empty() {
            return vec![];
        }
        let lacks = |name: &str| self.cluster.lacks_service(self.namespace, name);
        let namespace = self.namespace;
        if let Some(apex) = spec["service"].as_str().and_then(|name| self.local_name(name))
            && lacks(apex)
        {
            return vec![format!(
                "spec.service: the Service {namespace}/{apex} does not exist, so the split has no effect"
            )];
        }
        let backends = spec["backends"].as_array().into_iter().flatten().enumerate();
        let names = backends.filter_map(|(at, backend)| Some((at, backend["service"].as_str()?)));
        names
            .filter(|(_, name)| lacks(name))
            .take(NAMED_MAX)
            .map(|(at, name)| {
                format!(
                    "spec.backends[{at}].service: the Service {namespace}/{name} does not exist, so the others receive its share"
                )
            })
            .collect()
    }

    /// Returns the name of a Service in the request's namespace, given its name or DNS name.
    fn local_name(self, name: &str) -> Option<&str> {
        let Some((name, rest)) = name.trim_end_matches('.').split_once('.') else {
            return Some(name);
        };
        let rest = rest.strip_prefix(self.namespace)?;
        let domain = self.injector.config().cluster_domain.as_str();
        (rest.is_empty() || rest == ".svc" || rest.strip_prefix(".svc.") == Some(domain)).then_some(name)
    }

    fn gateway(self, object: Value) -> (&'static str, Verdict) {
        let object = self.placed(object);
        let parents: Vec<ParentRef> = object["spec"]["parentRefs"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|parent| serde_json::from_value(parent.clone()).ok())
            .collect();
        if !parents.iter().any(is_ours) {
            return ("Gateway", Verdict::Allowed(vec![]));
        }
        let unknown = Object::unknown_fields(&object);
        let read = match Object::from_value(object) {
            Ok(read) => read,
            Err(invalid) => {
                let warning = format!("{invalid}, so the mesh does not use the route");
                return (kind_of(&invalid), Verdict::Allowed(vec![warning]));
            }
        };
        let kind = read.kind().as_str();
        let faults = Faults::from_object(&read);
        if let Some(reason) = faults.annotations.into_iter().next() {
            return (kind, Verdict::Rejected(format!("{}: {reason}", read.object_ref())));
        }
        let unknown = unknown.iter().take(NAMED_MAX);
        let mut warnings: Vec<_> = unknown.map(|path| format!("unknown field {path}")).collect();
        let content = faults.content.into_iter();
        warnings.extend(content.map(|reason| format!("{reason}, so the mesh does not use the route")));
        (kind, Verdict::Allowed(warnings))
    }
}

/// Returns the metric label of a rejected document.
fn kind_of(invalid: &Invalid) -> &'static str {
    invalid.object.as_ref().map_or("", |object| object.kind.as_str())
}

/// Returns true if a parent is the mesh's.
fn is_ours(parent: &ParentRef) -> bool {
    match parent.kind.as_str() {
        "Service" => matches!(parent.group.as_str(), "" | keys::CORE_GROUP),
        "Server" | "EgressNetwork" => parent.group == keys::POLICY_GROUP,
        _ => false,
    }
}

fn wrong_group(object: &Value) -> Verdict {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (version, kind, name) = (
        text(&object["apiVersion"]),
        text(&object["kind"]),
        text(&object["metadata"]["name"]),
    );
    let best = Kind::from_group(keys::POLICY_GROUP, &kind).map(|kind| kind.api_versions()[0]);
    let instead = best.unwrap_or(keys::POLICY_GROUP);
    Verdict::Rejected(format!(
        "{kind} {name}: apiVersion: unsupported group {WRONG_GROUP} ({version}); use {instead}"
    ))
}

#[cfg(test)]
mod tests;
