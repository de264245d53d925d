//! The control plane as manifests, run like the user's.

use std::path::{Path, PathBuf};

use destination_k8s::{Object, keys};
use injector_sidecar::annotations;
use proxy_model::{defaults, ports};
use serde_json::{Value, json};

use super::names::{CONTROL_PLANE, VIZ};

/// Deployments without which no sidecar becomes ready.
pub(crate) const ESSENTIAL: [&str; 2] = ["linkerd-identity", "linkerd-destination"];
/// The container that inherits the listener on the host's loopback.
pub(crate) const VIZ_CONTAINER: &str = "mesh-viz";

/// Folders and programs for the flags of the control plane.
pub(crate) struct ControlPlaneConfig<'a> {
    pub(crate) manifests: &'a Path,
    /// Folder of generated manifests.
    pub(crate) generated: &'a Path,
    /// File with the token of the viz API.
    pub(crate) viz_token: &'a Path,
    pub(crate) programs: Programs,
    pub(crate) identity: &'a IdentityFiles,
}

/// Files of mesh-identity.
#[derive(Clone, Debug)]
pub(crate) struct IdentityFiles {
    pub(crate) anchors: PathBuf,
    pub(crate) issuer_cert: PathBuf,
    pub(crate) issuer_key: PathBuf,
    /// Key set that verifies workload tokens.
    pub(crate) jwks: PathBuf,
}

/// Locations of the programs.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    /// The folder of `mesh`, where a build puts them.
    beside: PathBuf,
}

impl Programs {
    /// The programs that belong to this `mesh`.
    pub(crate) fn beside(mesh: &Path) -> Self {
        Self {
            beside: mesh.parent().unwrap_or(Path::new("/")).to_owned(),
        }
    }

    /// Finds a program by name: beside `mesh`, else on the PATH.
    pub(crate) fn find(&self, name: &str) -> String {
        let own = self.beside.join(name);
        if own.exists() {
            own.display().to_string()
        } else {
            name.to_owned()
        }
    }
}

/// Objects of the control plane.
pub(crate) fn objects(config: &ControlPlaneConfig<'_>) -> Vec<Object> {
    let value = [
        namespace(CONTROL_PLANE),
        namespace(VIZ),
        identity(config),
        destination(config),
        viz(config),
        service(CONTROL_PLANE, "linkerd-identity", "linkerd-identity", ports::IDENTITY),
        service(CONTROL_PLANE, "linkerd-dst", "linkerd-destination", ports::DESTINATION),
        service(CONTROL_PLANE, "linkerd-policy", "linkerd-destination", ports::POLICY),
        service(VIZ, "mesh-viz", "mesh-viz", ports::VIZ),
    ];
    value
        .into_iter()
        .map(|value| Object::from_value(value).expect("our own manifests are valid"))
        .collect()
}

fn namespace(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })
}

fn service(namespace: &str, name: &str, deployment: &str, port: u16) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name, "namespace": namespace },
        "spec": {
            "selector": { keys::CONTROL_PLANE_COMPONENT: deployment },
            "ports": [{ "name": "grpc", "port": port }],
        },
    })
}

/// A program of the control plane.
struct Part<'a> {
    namespace: &'a str,
    name: &'a str,
    program: &'a str,
    args: Vec<String>,
    ports: Vec<u16>,
    admin: u16,
    // Identity and destination serve their own sidecars, so they cannot wait for them.
    awaits_proxy: bool,
    /// Ports for clients with an identity.
    require_identity: String,
}

fn deployment(config: &ControlPlaneConfig<'_>, part: Part<'_>) -> Value {
    let labels = json!({ keys::CONTROL_PLANE_COMPONENT: part.name, keys::CONTROL_PLANE_NS: CONTROL_PLANE });
    let ports: Vec<_> = part.ports.iter().map(|port| json!({ "containerPort": port })).collect();
    let mut command = vec![config.programs.find(part.program)];
    command.extend(part.args);
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": part.name, "namespace": part.namespace, "labels": labels },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { keys::CONTROL_PLANE_COMPONENT: part.name } },
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {
                        keys::INJECT: keys::INJECT_ENABLED,
                        annotations::PROXY_AWAIT: if part.awaits_proxy { "enabled" } else { "disabled" },
                        annotations::REQUIRE_IDENTITY_PORTS: part.require_identity,
                    },
                },
                "spec": {
                    "serviceAccountName": part.name,
                    "containers": [{
                        "name": part.program,
                        "command": command,
                        "ports": ports,
                        "readinessProbe": { "httpGet": { "path": "/ready", "port": part.admin } },
                    }],
                },
            },
        },
    })
}

fn flag(name: &str, value: &Path) -> [String; 2] {
    [name.to_owned(), value.display().to_string()]
}

fn identity(config: &ControlPlaneConfig<'_>) -> Value {
    let files = config.identity;
    let args = [
        flag("--issuer-cert", &files.issuer_cert),
        flag("--issuer-key", &files.issuer_key),
        flag("--trust-anchors", &files.anchors),
        flag("--jwks", &files.jwks),
    ];
    let part = Part {
        namespace: CONTROL_PLANE,
        name: ESSENTIAL[0],
        program: "mesh-identity",
        args: args.concat(),
        ports: vec![ports::IDENTITY],
        admin: ports::IDENTITY_ADMIN,
        awaits_proxy: false,
        require_identity: String::new(),
    };
    deployment(config, part)
}

fn manifests(config: &ControlPlaneConfig<'_>) -> Vec<String> {
    // Generated objects come last: they complete the user's objects of the same name.
    [
        flag("--manifests", config.manifests),
        flag("--manifests", config.generated),
    ]
    .concat()
}

fn destination(config: &ControlPlaneConfig<'_>) -> Value {
    let mut args = manifests(config);
    args.extend(["--cluster-networks".to_owned(), defaults::CLUSTER_NETWORKS.to_owned()]);
    let part = Part {
        namespace: CONTROL_PLANE,
        name: ESSENTIAL[1],
        program: "mesh-destination",
        args,
        ports: vec![ports::DESTINATION, ports::POLICY],
        admin: ports::DESTINATION_ADMIN,
        awaits_proxy: false,
        require_identity: format!("{},{}", ports::DESTINATION, ports::POLICY),
    };
    deployment(config, part)
}

fn viz(config: &ControlPlaneConfig<'_>) -> Value {
    let part = Part {
        namespace: VIZ,
        name: "mesh-viz",
        program: VIZ_CONTAINER,
        args: [manifests(config), flag("--token-file", config.viz_token).to_vec()].concat(),
        ports: vec![ports::VIZ],
        admin: ports::VIZ_ADMIN,
        awaits_proxy: true,
        require_identity: String::new(),
    };
    deployment(config, part)
}
