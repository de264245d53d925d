//! What people say to the mesh, looked at before it is stored: the field and the reason of what makes no sense, and a
//! warning where something is stored and does less than it seems to.
//!
//! Routes of the Gateway API have other readers too: of them only what is addressed to the mesh is looked at, and what
//! the mesh does not support is a warning.

use destination_index::Faults;
use destination_k8s::{Invalid, Kind, Object, keys, route::ParentRef};
use injector_patch::Injector;
use serde_json::Value;

/// A group that some guides name, and that no release of Linkerd ever served.
const WRONG_GROUP: &str = "security.linkerd.io";
/// Unknown fields that are named; a document of nothing else would make a long sentence.
const NAMED_MAX: usize = 5;

/// What is said of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may be stored; this is worth to be said.
    Allowed(Vec<String>),
    /// It makes no sense.
    Refused(String),
}

/// What is asked about an object.
#[derive(Copy, Clone)]
pub(crate) struct Asked<'a> {
    pub(crate) group: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) injector: &'a Injector,
}

impl Asked<'_> {
    /// Judges an object; says also under which name it counts.
    pub(crate) fn judge(self, object: Value) -> (&'static str, Verdict) {
        match self.group {
            // Deleted.
            _ if object.is_null() => ("", Verdict::Allowed(vec![])),
            WRONG_GROUP => ("", wrong_group(&object)),
            keys::POLICY_GROUP | keys::PROFILE_GROUP | keys::SPLIT_GROUP => self.ours(object),
            keys::GATEWAY_GROUP => self.gateway(object),
            _ => ("Annotations", Verdict::Allowed(self.injector.concerns(&object))),
        }
    }

    /// As it will be stored: the namespace of the request is the object's.
    fn placed(self, mut object: Value) -> Value {
        if let Some(metadata) = object["metadata"].as_object_mut()
            && !self.namespace.is_empty()
        {
            metadata.insert("namespace".to_owned(), self.namespace.into());
            // Admission comes before the API server makes a name of it.
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
            Err(invalid) => return (kind_of(&invalid), Verdict::Refused(invalid.to_string())),
        };
        let kind = read.kind().as_str();
        let refused = |reason: String| (kind, Verdict::Refused(format!("{}: {reason}", read.object_ref())));
        if !unknown.is_empty() {
            let named: Vec<_> = unknown.iter().take(NAMED_MAX).map(ToString::to_string).collect();
            let verb = if unknown.len() == 1 {
                "is no field"
            } else {
                "are no fields"
            };
            return refused(format!("{} {verb} that the mesh knows", named.join(", ")));
        }
        let faults = Faults::of(&read);
        if let Some(reason) = faults.annotations.into_iter().chain(faults.content).next() {
            return refused(reason);
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
                    "a profile is named after its Service ({name}.{namespace}.svc.{domain}); as {name} it has no effect"
                )]
            }
            _ => vec![],
        }
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
        let faults = Faults::of(&read);
        if let Some(reason) = faults.annotations.into_iter().next() {
            return (kind, Verdict::Refused(format!("{}: {reason}", read.object_ref())));
        }
        let unknown = unknown.iter().take(NAMED_MAX);
        let mut warnings: Vec<_> = unknown
            .map(|path| format!("{path} is no field that the mesh knows"))
            .collect();
        let content = faults.content.into_iter();
        warnings.extend(content.map(|reason| format!("{reason}, so the mesh does not use the route")));
        (kind, Verdict::Allowed(warnings))
    }
}

/// What a document that is refused counts as.
fn kind_of(invalid: &Invalid) -> &'static str {
    invalid.object.as_ref().map_or("", |object| object.kind.as_str())
}

/// Whether a route that has this parent is for the mesh.
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
    let best = Kind::of_group(keys::POLICY_GROUP, &kind).map(|kind| kind.api_versions()[0]);
    let instead = best.unwrap_or(keys::POLICY_GROUP);
    Verdict::Refused(format!(
        "{kind} {name}: apiVersion: the mesh reads nothing of the group {WRONG_GROUP} ({version}); write {instead}"
    ))
}

#[cfg(test)]
mod tests;
