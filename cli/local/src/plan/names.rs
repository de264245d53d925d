//! Names and addresses of the local cluster, hashes of templates.

use std::{
    hash::{DefaultHasher, Hash, Hasher as _},
    net::Ipv4Addr,
};

use destination_k8s::{Kind, ObjectRef};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use proxy_model::defaults;

use crate::control::DeploymentRef;

/// Namespace and name.
pub(crate) type Key = (String, String);

/// Name of the only node.
pub(crate) const NODE: &str = "mesh-local";
/// Namespace of the control plane.
pub(crate) const CONTROL_PLANE: &str = defaults::CONTROL_PLANE_NAMESPACE;
/// Namespace of mesh-viz.
pub(crate) const VIZ: &str = defaults::VIZ_NAMESPACE;
/// The supervisor's address, the source of probes.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(10, 42, 0, 1);
/// Network of the pods, a /16.
pub(crate) const POD_NET: [u8; 2] = [10, 42];
/// Network of the Services, a /16.
pub(crate) const SERVICE_NET: [u8; 2] = [10, 43];

/// Namespace and name of an object.
pub(crate) fn key_from_metadata(metadata: &ObjectMeta) -> Key {
    (
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

/// Reference to a Deployment.
pub(crate) fn deployment_ref(metadata: &ObjectMeta) -> DeploymentRef {
    let (namespace, name) = key_from_metadata(metadata);
    DeploymentRef { namespace, name }
}

/// Reference to a Pod.
pub(crate) fn pod_ref(namespace: &str, name: &str) -> ObjectRef {
    ObjectRef::new(Kind::Pod, namespace, name)
}

/// A hash that is the same in every run.
pub(crate) fn stable_hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Encodes a hash in Kubernetes' alphabet, which has no vowels, so that no words result.
pub(crate) fn short_hash(mut hash: u64, length: usize) -> String {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut letter = || {
        let index = (hash % 27) as usize;
        hash /= 27;
        char::from(LETTERS[index])
    };
    std::iter::repeat_with(&mut letter).take(length).collect()
}

/// A UID that is the same for the same name.
pub(crate) fn uid(namespace: &str, name: &str) -> String {
    let (high, low) = (stable_hash(&(namespace, name)), stable_hash(&(name, namespace)));
    let (a, b, c) = (high >> 32, (high >> 16) & 0xffff, high & 0xfff);
    format!(
        "{a:08x}-{b:04x}-4{c:03x}-a{:03x}-{:012x}",
        low >> 52,
        low & 0xffff_ffff_ffff
    )
}
