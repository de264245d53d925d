//! What is said to the mesh, looked at before it is stored: the field and the reason of what makes no sense.

use destination_k8s::{Kind, Object};
use injector_patch::Injector;
use serde_json::Value;

/// What is said of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may be stored; this is worth to be said.
    Allowed(Vec<String>),
    /// It makes no sense.
    Refused(String),
}

/// Looks at an object; says also under which name it counts.
pub(crate) fn validate(
    group: &str,
    namespace: &str,
    mut object: Value,
    _injector: &Injector,
) -> (&'static str, Verdict) {
    let _ = group;
    if object.is_null() {
        return ("", Verdict::Allowed(vec![]));
    }
    if let Some(metadata) = object["metadata"].as_object_mut()
        && !namespace.is_empty()
    {
        metadata.entry("namespace").or_insert_with(|| namespace.into());
    }
    match Object::from_value(object) {
        Ok(object) => (Kind::as_str(object.kind()), Verdict::Allowed(vec![])),
        Err(invalid) => ("", Verdict::Refused(invalid.to_string())),
    }
}
