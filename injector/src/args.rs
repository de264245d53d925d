//! The command line.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use destination_source::cluster::ClientOptions;
use proxy_model::ports;

/// Adds sidecars to new pods and validates the mesh's resources, by admission webhooks.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "mesh-injector", version)]
pub(crate) struct Args {
    /// Address of the webhooks (HTTPS): / injects, /validate validates.
    #[arg(long, default_value_t = any(ports::INJECTOR))]
    pub(crate) addr: SocketAddr,

    /// Address of /metrics, /ready and /live.
    #[arg(long, default_value_t = any(ports::INJECTOR_ADMIN))]
    pub(crate) admin_addr: SocketAddr,

    /// Directory of manifests of namespaces, Services and owners of pods, instead of a cluster; repeatable.
    #[arg(long, value_name = "DIR", required_unless_present = "kubernetes")]
    pub(crate) manifests: Vec<PathBuf>,

    /// Watch a Kubernetes cluster instead of --manifests. Issues and rotates the certificate in the Secret
    /// linkerd-proxy-injector-k8s-tls, unless --tls-cert is given.
    #[arg(long, conflicts_with = "manifests")]
    pub(crate) kubernetes: bool,

    /// Kubeconfig of the cluster; found as by kubectl by default, or in the pod's own files.
    #[arg(long, value_name = "FILE", requires = "kubernetes", conflicts_with = "manifests")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig.
    #[arg(long, value_name = "NAME", requires = "kubernetes", conflicts_with = "manifests")]
    pub(crate) context: Option<String>,

    /// The Secret of the certificate is managed externally (for example by cert-manager): wait for it, never write it.
    #[arg(long, requires = "kubernetes", conflicts_with = "manifests")]
    pub(crate) external_certificate: bool,

    /// Certificate of the webhooks, PEM; reloaded on change. [default with --manifests: /var/run/linkerd/tls/tls.crt]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// Private key of the certificate, PEM; reloaded on change. [default with --manifests:
    /// /var/run/linkerd/tls/tls.key]
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Values of the control plane's chart, YAML; reloaded on change.
    #[arg(long, value_name = "FILE", default_value = "/var/run/linkerd/config/values")]
    pub(crate) values: PathBuf,

    /// Trust anchors, PEM; reloaded on change.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/var/run/linkerd/identity/trust-roots/ca-bundle.crt"
    )]
    pub(crate) trust_anchors: PathBuf,

    /// Namespace of the control plane.
    #[arg(long, default_value = proxy_model::defaults::CONTROL_PLANE_NAMESPACE, value_name = "NAME")]
    pub(crate) control_plane_namespace: String,
}

fn any(port: u16) -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, port).into()
}

impl Args {
    /// Files of the certificate; none if the program issues its own.
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

    /// Cluster to watch; none if manifests are the source.
    pub(crate) fn cluster(&self) -> Option<ClientOptions> {
        self.kubernetes.then(|| ClientOptions {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            ..ClientOptions::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn parses_the_command_line() {
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
