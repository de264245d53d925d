//! Names of objects, hashes of templates, files of objects.

use std::path::Path;

use destination_k8s::{Kind, ObjectRef};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::cluster::Key;
use crate::control::DeploymentRef;

/// Namespace and name.
pub(super) fn key_of(metadata: &ObjectMeta) -> Key {
    (
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

/// Reference to a Deployment.
pub(super) fn deployment_ref(metadata: &ObjectMeta) -> DeploymentRef {
    let (namespace, name) = key_of(metadata);
    DeploymentRef { namespace, name }
}

/// Reference to a Pod.
pub(super) fn pod_ref(namespace: &str, name: &str) -> ObjectRef {
    ObjectRef::new(Kind::Pod, namespace, name)
}

/// Encodes a hash in Kubernetes' alphabet, which has no vowels, so that no words result.
pub(super) fn short_hash(mut hash: u64, length: usize) -> String {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut letter = || {
        let index = (hash % 27) as usize;
        hash /= 27;
        char::from(LETTERS[index])
    };
    std::iter::repeat_with(&mut letter).take(length).collect()
}

/// Finds the file of an object and returns it as the prefix of a message; empty if not found.
pub(super) fn file_of(dir: &Path, wanted: &ObjectRef) -> String {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.sort();
    for path in files {
        if path.is_dir() {
            let inner = file_of(&path, wanted);
            if !inner.is_empty() {
                return inner;
            }
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            let found = destination_source::manifest::parse(&path, &text).objects;
            if found.iter().any(|object| object.object_ref() == *wanted) {
                return format!("{}: ", path.display());
            }
        }
    }
    String::new()
}
