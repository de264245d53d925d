//! Page about annotations: settings of the sidecar, and those of routes, retries, timeouts and breakers.

use injector_sidecar::annotations;
use tests_reference::{check, code, table};

/// Keys of annotations and labels, with their docs.
const KEYS: &str = include_str!("../../../destination/k8s/src/keys.rs");

/// Annotations of traffic and tap, by what their keys begin with.
const TRAFFIC: [&str; 5] = ["retry.", "timeout.", "balancer.", "smi.", "viz."];

/// Constants of a source file that are strings: value and doc, in order.
fn constants(source: &str) -> Vec<(&str, String)> {
    let (mut found, mut doc) = (Vec::new(), Vec::new());
    let statements = source.split_inclusive([';', '\n']).map(str::trim);
    for statement in statements {
        if let Some(line) = statement.strip_prefix("/// ") {
            doc.push(line);
        } else if let Some((_, value)) = statement.split_once('"') {
            let value = value.split('"').next().unwrap_or_default();
            found.push((value, std::mem::take(&mut doc).join(" ")));
        } else if !statement.starts_with("pub const") {
            doc.clear();
        }
    }
    found
}

fn rows<'a>(entries: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let rows = entries.into_iter().map(|(key, doc)| vec![code(key), doc]);
    table(&["annotation", "meaning"], rows)
}

#[test]
fn reference_of_annotations() {
    let constants = constants(KEYS);
    let inject = constants.iter().filter(|(key, _)| *key == "linkerd.io/inject");
    let settings = annotations::settings().map(|(key, doc)| (key, doc.to_owned()));
    let traffic = constants
        .iter()
        .filter(|(key, _)| TRAFFIC.iter().any(|prefix| key.starts_with(prefix)));
    let body = format!(
        "All keys are Linkerd's unless noted. An invalid value rejects the pod, or the object, with a message that names the annotation; \
         `kubectl apply` warns of unknown keys.\n\n## Sidecars\n\nOn a pod, a pod template or a namespace; the pod's takes \
         precedence.\n\n{}\n## Traffic\n\nOn Services, routes, ServiceProfiles, namespaces or pods, as in Linkerd.\n\n{}",
        rows(inject.cloned().chain(settings)),
        rows(traffic.cloned()),
    );
    check("annotations.md", "Annotations", &body);
}

#[test]
fn reads_wrapped_constants_and_joins_docs() {
    let source = "/// One.\n/// Two.\npub const A: &str =\n    \"a\";\nconst B: u8 = 1;\n/// Three.\npub const C: &str = \"c\";\n";
    let expected = [("a", "One. Two.".to_owned()), ("c", "Three.".to_owned())];
    assert_eq!(constants(source), expected);
}
