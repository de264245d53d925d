//! The command line.

use std::{net::SocketAddr, path::PathBuf};

/// Adds the sidecar to pods as they are made, and looks at what people say to the mesh before it is stored.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "mesh-injector", version)]
pub(crate) struct Args {
    /// Where the API server asks (HTTPS): / for sidecars, /validate for what is refused.
    #[arg(long, default_value = "0.0.0.0:8443")]
    pub(crate) addr: SocketAddr,

    /// Where to serve /metrics, /ready and /live.
    #[arg(long, default_value = "0.0.0.0:9995")]
    pub(crate) admin_addr: SocketAddr,

    /// A directory with manifests of namespaces (and of what owns pods), instead of a cluster; may be given more than once.
    #[arg(long, value_name = "DIR", required_unless_present = "kubernetes")]
    pub(crate) manifests: Vec<PathBuf>,

    /// Watch a Kubernetes cluster instead of --manifests. Our certificate is then made and kept by ourselves, in the Secret
    /// linkerd-proxy-injector-k8s-tls, unless --tls-cert says otherwise.
    #[arg(long, conflicts_with = "manifests")]
    pub(crate) kubernetes: bool,

    /// The kubeconfig that says where the cluster is; by default as kubectl finds it, in a pod the pod's own files.
    #[arg(long, value_name = "FILE", requires = "kubernetes", conflicts_with = "manifests")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig.
    #[arg(long, value_name = "NAME", requires = "kubernetes", conflicts_with = "manifests")]
    pub(crate) context: Option<String>,

    /// Somebody else (such as cert-manager) makes the Secret with our certificate; it is waited for, and never written.
    #[arg(long, requires = "kubernetes", conflicts_with = "manifests")]
    pub(crate) external_certificate: bool,

    /// Our certificate, PEM. Read again when it changes. [default with --manifests: /var/run/linkerd/tls/tls.crt]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// Its private key, PEM. Read again when it changes. [default with --manifests: /var/run/linkerd/tls/tls.key]
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,

    /// The values of the control plane's chart, YAML. Read again when they change.
    #[arg(long, value_name = "FILE", default_value = "/var/run/linkerd/config/values")]
    pub(crate) values: PathBuf,

    /// The trust anchors, PEM. Read again when they change.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/var/run/linkerd/identity/trust-roots/ca-bundle.crt"
    )]
    pub(crate) trust_anchors: PathBuf,

    /// The namespace of the control plane.
    #[arg(long, default_value = "linkerd", value_name = "NAME")]
    pub(crate) control_plane_namespace: String,
}

impl Args {
    /// The files of our certificate; none if we keep one ourselves.
    pub(crate) fn certificate(&self) -> Option<[PathBuf; 2]> {
        match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Some([certificate.clone(), key.clone()]),
            _ if self.kubernetes => None,
            _ => Some([
                "/var/run/linkerd/tls/tls.crt".into(),
                "/var/run/linkerd/tls/tls.key".into(),
            ]),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
        let parsed = |line: &[&str]| Args::try_parse_from([&["mesh-injector"], line].concat());
        assert!(parsed(&[]).is_err() && parsed(&["--kubernetes", "--manifests", "a"]).is_err());
        let of_manifests = parsed(&["--manifests", "a"]).expect("valid").certificate();
        assert!(of_manifests.is_some_and(|[_, key]| key.ends_with("tls.key")));
        assert_eq!(parsed(&["--kubernetes"]).expect("valid").certificate(), None);
        let files = parsed(&["--kubernetes", "--tls-cert", "a", "--tls-key", "b"]).expect("valid");
        assert_eq!(files.certificate(), Some(["a".into(), "b".into()]));
        assert!(parsed(&["--kubernetes", "--tls-cert", "a"]).is_err());
    }
}
