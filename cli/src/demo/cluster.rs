//! Demo application for a cluster: the same manifests, with an image and settings for Pod Security level `restricted`.

use anyhow::Context as _;
use serde_json::{Value, json};

/// Annotation left to `mesh inject`, so that the application can also run without a mesh.
const INJECT: &str = destination_k8s::keys::INJECT;

/// Renders the manifests with an image.
pub(super) fn manifests(texts: &[&str], image: &str) -> anyhow::Result<String> {
    let mut out = String::new();
    for text in texts {
        for mut object in destination_yaml::all(text).context("cannot parse the demo's manifests")? {
            adapt(&mut object, image);
            out += &format!("---\n{}", destination_yaml::write(&object));
        }
    }
    Ok(out)
}

fn adapt(object: &mut Value, image: &str) {
    if let Some(annotations) = object
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.remove(INJECT);
        if annotations.is_empty() {
            object["metadata"]
                .as_object_mut()
                .map(|metadata| metadata.remove("annotations"));
        }
    }
    let Some(spec) = object.pointer_mut("/spec/template/spec") else {
        return;
    };
    spec["securityContext"] = json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    for container in spec["containers"].as_array_mut().into_iter().flatten() {
        // The image's entry point is the program; a local mesh looks it up by name.
        let words = container["command"].take();
        let args: Vec<Value> = words.as_array().into_iter().flatten().skip(1).cloned().collect();
        container["args"] = args.into();
        container["image"] = image.into();
        container["imagePullPolicy"] = "IfNotPresent".into();
        container["securityContext"] = json!({
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
        });
        if let Some(container) = container.as_object_mut() {
            container.remove("command");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_run_their_role_without_privileges() {
        let text = "kind: Namespace\nmetadata: {name: vote, annotations: {linkerd.io/inject: enabled}}\n---\n\
            kind: Deployment\nmetadata: {name: web}\nspec: {template: {spec: {containers: [{name: web, command: [mesh, demo-app, web]}]}}}\n";
        let made = manifests(&[text], "localhost/mesh-app:1").expect("made");
        let objects = destination_yaml::all(&made).expect("YAML");
        assert_eq!(objects[0]["metadata"], json!({"name": "vote"}));
        assert_eq!(objects[1]["metadata"], json!({"name": "web"}));
        let container = &objects[1]["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["args"], json!(["demo-app", "web"]));
        assert_eq!(
            (&container["image"], &container["command"]),
            (&json!("localhost/mesh-app:1"), &Value::Null)
        );
        assert_eq!(container["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
    }
}
