//! Parser of manifests: text in, objects and refusals out. A broken document does not affect its neighbors.

use std::path::Path as FilePath;

use destination_k8s::{Object, Path};
use destination_yaml::{Document, documents};
use serde_json::Value;

use crate::{Refusal, locate};

/// A parsed manifest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// Objects, in order of appearance.
    pub objects: Vec<Object>,
    /// Rejected parts.
    pub refused: Vec<Refusal>,
}

/// Parses a manifest; `file` appears only in refusals.
pub fn parse(file: &FilePath, text: &str) -> Manifest {
    let mut manifest = Manifest::default();
    for document in documents(text) {
        read(file, document, &mut manifest);
    }
    manifest
}

fn line_of(document: Document<'_>, path: &Path) -> usize {
    locate::line(document.text, path).map_or_else(|| document.first_line(), |line| document.before + line)
}

fn read(file: &FilePath, document: Document<'_>, manifest: &mut Manifest) {
    let value = match document.value() {
        Ok(Value::Null) => return,
        Ok(value) => value,
        Err(error) => {
            manifest.refused.push(Refusal {
                file: file.to_owned(),
                line: Some(error.line),
                object: None,
                reason: error.to_string(),
            });
            return;
        }
    };
    let is_list = value
        .get("kind")
        .and_then(Value::as_str)
        .is_some_and(|kind| kind.ends_with("List"));
    match value {
        Value::Object(mut list) if is_list && list.get("items").is_some_and(Value::is_array) => {
            let Some(Value::Array(items)) = list.remove("items") else {
                return;
            };
            for (index, item) in items.into_iter().enumerate() {
                object(file, document, item, &Path::keys(&["items"]).index(index), manifest);
            }
        }
        value => object(file, document, value, &Path::default(), manifest),
    }
}

fn object(file: &FilePath, document: Document<'_>, value: Value, at: &Path, manifest: &mut Manifest) {
    // An API server rejects them too if the client is kubectl.
    let unread = Object::unread_fields(&value).into_iter().next();
    let (path, reason, object) = match (Object::from_value(value), unread) {
        (Ok(object), None) => {
            manifest.objects.push(object);
            return;
        }
        (Ok(object), Some(path)) => {
            let object = object.object_ref();
            let reason = format!("{object}: {path}: unknown field");
            (path, reason, Some(object))
        }
        (Err(invalid), _) => (invalid.path.clone(), invalid.to_string(), invalid.object),
    };
    let mut whole = at.clone();
    whole.0.extend(path.0);
    manifest.refused.push(Refusal {
        file: file.to_owned(),
        line: Some(line_of(document, &whole)),
        reason,
        object,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Manifest {
        parse(FilePath::new("a.yaml"), text)
    }

    #[test]
    fn unfolds_documents_and_lists() {
        let text = "# head\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n--- # next\napiVersion: v1\n\
                    kind: List\nitems:\n- {apiVersion: v1, kind: Service, metadata: {name: web}, spec: {}}\n---\n";
        let manifest = parsed(text);
        let names: Vec<_> = manifest.objects.iter().map(|o| o.object_ref().to_string()).collect();
        assert_eq!(names, ["Namespace a", "Service default/web"]);
        assert_eq!(manifest.refused, []);
    }

    #[test]
    fn refusals_have_file_line_and_reason_and_spare_neighbors() {
        let text = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\nspec:\n  ports:\n  - port: 70000\n---\n\
                    a: [\n---\napiVersion: v1\nkind: Teapot\nmetadata: {name: t}\n---\n\
                    apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n";
        let manifest = parsed(text);
        assert_eq!(manifest.objects.len(), 1);
        let shown: Vec<_> = manifest.refused.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown[0],
            "a.yaml:7: Service default/web: spec.ports[0].port: 70000 is not a port from 1 to 65535"
        );
        assert!(
            shown[1].starts_with("a.yaml:") && shown[1].contains("invalid YAML"),
            "{}",
            shown[1]
        );
        assert_eq!(
            shown[2],
            "a.yaml:12: kind: the kind Teapot (v1) is not one that the mesh reads"
        );
    }

    #[test]
    fn rejects_unknown_fields_at_their_line() {
        let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec:\n  selector: {}\n  replicsa: 3\n\
                    \x20 template: {}\n---\napiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {name: s}\n\
                    spec:\n  port: 80\n  podSelector: {}\n  proxyProtcol: HTTP/1\n---\n\
                    apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\n\
                    spec: {parentRefs: [], newer: 1, rules: []}\n";
        let manifest = parsed(text);
        let shown: Vec<_> = manifest.refused.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "a.yaml:6: Deployment default/d: spec.replicsa: unknown field",
                "a.yaml:15: Server default/s: spec.proxyProtcol: unknown field"
            ]
        );
        let names: Vec<_> = manifest.objects.iter().map(|o| o.object_ref().to_string()).collect();
        assert_eq!(
            names,
            ["HTTPRoute default/r"],
            "the Gateway API has more fields than the mesh reads"
        );
    }

    #[test]
    fn rejects_negative_replicas() {
        let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n\
                    spec: {selector: {}, replicas: -1, template: {}}\n";
        assert_eq!(
            parsed(text).refused[0].to_string(),
            "a.yaml:4: Deployment default/d: spec.replicas: -1 is negative"
        );
    }

    #[test]
    fn rejects_wrong_types_at_their_line() {
        let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: apps/v1\n  kind: Deployment\n  metadata: {name: d}\n\
                    \x20 spec:\n    selector: {}\n    replicas: many\n    template: {}\n";
        let refused = parsed(text).refused;
        assert_eq!(refused[0].line, Some(9), "{refused:?}");
    }
}
