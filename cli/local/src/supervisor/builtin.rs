//! The control plane as manifests: the same machinery runs it as what the user brings.

use std::path::{Path, PathBuf};

use destination_k8s::{Object, keys};
use proxy_model::ports;
use serde_json::{Value, json};

use super::{
    credentials::Credentials,
    sidecar::{CLUSTER_NETWORKS, CONTROL_PLANE, VIZ},
};

/// Deployments without which no sidecar gets ready.
pub(super) const ESSENTIAL: [&str; 2] = ["linkerd-identity", "linkerd-destination"];
/// The container that gets the listener on the host's loopback.
pub(super) const VIZ_CONTAINER: &str = "mesh-viz";

/// Folders and programs that the control plane is told.
pub(super) struct Setting<'a> {
    /// The user's manifests.
    pub(super) manifests: &'a Path,
    /// What is generated beside them.
    pub(super) generated: &'a Path,
    /// The folder of the control plane's programs.
    pub(super) programs: Programs,
    /// Files of mesh-identity.
    pub(super) credentials: &'a Credentials,
}

/// Where the programs are.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    /// Beside `mesh`, where a build puts them.
    beside: PathBuf,
}

impl Programs {
    /// The programs that belong to this `mesh`.
    pub(super) fn of(mesh: &Path) -> Self {
        Self {
            beside: mesh.parent().unwrap_or(Path::new("/")).to_owned(),
        }
    }

    /// A program by name: beside `mesh`, else wherever the PATH has it.
    pub(super) fn find(&self, name: &str) -> String {
        let own = self.beside.join(name);
        if own.exists() {
            own.display().to_string()
        } else {
            name.to_owned()
        }
    }
}

/// All objects of the control plane.
pub(super) fn objects(setting: &Setting<'_>) -> Vec<Object> {
    let value = [
        namespace(CONTROL_PLANE),
        namespace(VIZ),
        identity(setting),
        destination(setting),
        viz(setting),
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
    // Identity and destination serve their own sidecar, so they cannot wait for it.
    waits: bool,
}

fn deployment(setting: &Setting<'_>, part: Part<'_>) -> Value {
    let labels = json!({ keys::CONTROL_PLANE_COMPONENT: part.name, keys::CONTROL_PLANE_NS: CONTROL_PLANE });
    let ports: Vec<_> = part.ports.iter().map(|port| json!({ "containerPort": port })).collect();
    let mut command = vec![setting.programs.find(part.program)];
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
                        "config.linkerd.io/proxy-await": if part.waits { "enabled" } else { "disabled" },
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

fn identity(setting: &Setting<'_>) -> Value {
    let files = setting.credentials;
    let args = [
        flag("--issuer-cert", &files.issuer_cert),
        flag("--issuer-key", &files.issuer_key),
        flag("--trust-anchors", &files.anchors_file),
        flag("--jwks", &files.jwks),
    ];
    let part = Part {
        namespace: CONTROL_PLANE,
        name: ESSENTIAL[0],
        program: "mesh-identity",
        args: args.concat(),
        ports: vec![ports::IDENTITY],
        admin: 9990,
        waits: false,
    };
    deployment(setting, part)
}

fn manifests(setting: &Setting<'_>) -> Vec<String> {
    // What is generated comes last: it completes the user's objects of the same name.
    [
        flag("--manifests", setting.manifests),
        flag("--manifests", setting.generated),
    ]
    .concat()
}

fn destination(setting: &Setting<'_>) -> Value {
    let mut args = manifests(setting);
    args.extend(["--cluster-networks".to_owned(), CLUSTER_NETWORKS.to_owned()]);
    let part = Part {
        namespace: CONTROL_PLANE,
        name: ESSENTIAL[1],
        program: "mesh-destination",
        args,
        ports: vec![ports::DESTINATION, ports::POLICY],
        admin: 9996,
        waits: false,
    };
    deployment(setting, part)
}

fn viz(setting: &Setting<'_>) -> Value {
    let part = Part {
        namespace: VIZ,
        name: "mesh-viz",
        program: VIZ_CONTAINER,
        args: manifests(setting),
        ports: vec![ports::VIZ],
        admin: 9994,
        waits: true,
    };
    deployment(setting, part)
}
