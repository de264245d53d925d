//! The service account as a kubeconfig: the plugin runs on the node, without the pod's files.

use std::{fs, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use super::{At as _, Error};

/// Location of the token and of the API server. The kubelet rotates the token in its file.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    /// Folder of `token` and `ca.crt`.
    pub(crate) dir: PathBuf,
    /// URL of the API server.
    pub(crate) server: String,
}

impl Account {
    /// Returns the kubeconfig with the current token.
    pub(super) fn kubeconfig(&self) -> Result<String, Error> {
        let (token, certificate) = (self.dir.join("token"), self.dir.join("ca.crt"));
        let token = fs::read_to_string(&token).at(&token)?;
        let certificate = fs::read(&certificate).at(&certificate)?;
        let name = crate::chain::PLUGIN;
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": "local",
                "cluster": {"server": self.server, "certificate-authority-data": STANDARD.encode(certificate)},
            }],
            "users": [{"name": name, "user": {"token": token.trim()}}],
            "contexts": [{"name": "linkerd-cni-context", "context": {"cluster": "local", "user": name}}],
            "current-context": "linkerd-cni-context",
        });
        Ok(destination_yaml::write(&kubeconfig))
    }
}
