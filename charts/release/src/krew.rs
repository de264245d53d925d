//! Manifest for krew, the plugin manager of kubectl: `kubectl krew install mesh` makes `kubectl mesh`.
//!
//! Source of the format: krew's developer guide, `krew.googlecontainertools.github.com/v1alpha2`.

use crate::{VERSION, architecture};

/// Manifest for one archive that will be at `url`.
pub(crate) fn manifest(url: &str, sha256: &str) -> String {
    let arch = architecture();
    format!(
        "apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: mesh
spec:
  version: v{VERSION}
  shortDescription: Install, inspect and debug the service mesh
  description: |
    The command line of the mesh: install and upgrade the control plane, add
    sidecars to manifests, check health, and show success rates, latencies,
    edges and live requests.
  platforms:
    - selector:
        matchLabels:
          os: linux
          arch: {arch}
      uri: {url}
      sha256: {sha256}
      bin: mesh
      files:
        - from: '*/mesh'
          to: .
        - from: '*/LICENSE'
          to: .
"
    )
}
