//! mesh-injector with files of its own, and a review as an API server sends it.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::Command,
};

use anyhow::Result;
use serde_json::{Value, json};

use crate::process::Silent;

/// Name in the certificate.
pub const NAME: &str = "injector.bench";

/// Running program.
pub struct Webhooks {
    process: Silent,
    /// Address of the webhooks.
    pub addr: SocketAddr,
    /// Address of its admin server.
    pub admin: SocketAddr,
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
    /// Its certificate, PEM.
    pub certificate_pem: String,
    _files: tempfile::TempDir,
}

impl Webhooks {
    /// Starts the program that `command` names, which injects into the namespace of [`review`].
    pub fn start(mut command: Command) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let made = write(dir.path())?;
        let (addr, admin) = (free()?, free()?);
        command.env("MESH_LOG", "warn");
        command.args(["--addr", &addr.to_string(), "--admin-addr", &admin.to_string()]);
        for (flag, name) in [
            ("--manifests", "manifests"),
            ("--tls-cert", "tls.crt"),
            ("--tls-key", "tls.key"),
            ("--values", "values"),
            ("--trust-anchors", "anchors"),
        ] {
            command.arg(flag).arg(dir.path().join(name));
        }
        Ok(Self {
            process: Silent::start("mesh-injector", &mut command)?,
            addr,
            admin,
            certificate: made.cert.der().to_vec(),
            certificate_pem: made.cert.pem(),
            _files: dir,
        })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// Returns an address on loopback that was free a moment ago.
pub fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Writes the files of the program; returns its certificate.
fn write(dir: &Path) -> Result<rcgen::CertifiedKey<rcgen::KeyPair>> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    std::fs::write(dir.join("tls.crt"), made.cert.pem())?;
    std::fs::write(dir.join("tls.key"), made.signing_key.serialize_pem())?;
    std::fs::write(dir.join("anchors"), made.cert.pem())?;
    std::fs::write(dir.join("values"), "{}\n")?;
    std::fs::create_dir(dir.join("manifests"))?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "shop", "annotations": {"linkerd.io/inject": "enabled"}}});
    std::fs::write(dir.join("manifests/shop.yaml"), namespace.to_string())?;
    Ok(made)
}

/// Pod as an API server sends it for review, with defaults, a token and managed fields.
pub fn review() -> Value {
    let container = |name: &str, port: u16| {
        json!({"name": name, "image": format!("registry.example.org/shop/{name}:1.2.3"), "imagePullPolicy": "IfNotPresent",
            "ports": [{"name": "http", "containerPort": port, "protocol": "TCP"}],
            "env": (0..12).map(|i| json!({"name": format!("SETTING_{i}"), "value": "something of usual length"}))
                .collect::<Vec<_>>(),
            "readinessProbe": {"httpGet": {"path": "/ready", "port": port, "scheme": "HTTP"}, "periodSeconds": 10,
                "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3},
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            "volumeMounts": [{"name": "token", "readOnly": true,
                "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]})
    };
    let fields: serde_json::Map<_, _> = (0..40)
        .map(|i| (format!("f:field-{i}"), json!({".": {}, "f:value": {}})))
        .collect();
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "web-5d4f8c7b9-", "namespace": "shop",
            "labels": {"app": "web", "pod-template-hash": "5d4f8c7b9"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f8c7b9", "controller": true,
                "uid": "0b1f8f1e-58a5-4d3a-9f2d-8f0f6f6f7a11", "blockOwnerDeletion": true}],
            "managedFields": [{"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1",
                "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": fields}}]},
        "spec": {"containers": [container("web", 8080), container("worker", 8081)], "restartPolicy": "Always",
            "serviceAccountName": "web", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
            "volumes": [{"name": "token", "projected": {"defaultMode": 420, "sources": [{"serviceAccountToken":
                {"expirationSeconds": 3607, "path": "token"}}]}}]},
        "status": {}});
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "d6e5a1c4-6f3f-4a43-8d34-1d6f8f0f6f7a", "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"}, "namespace": "shop", "operation": "CREATE",
        "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
        "object": pod, "oldObject": null, "dryRun": false}})
}
