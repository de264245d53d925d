//! The command line.

use std::{net::SocketAddr, path::PathBuf};

/// Adds the sidecar to pods as they are made.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "mesh-injector", version)]
pub(crate) struct Args {
    /// Where the API server asks (HTTPS).
    #[arg(long, default_value = "0.0.0.0:8443")]
    pub(crate) addr: SocketAddr,

    /// Where to serve /metrics, /ready and /live.
    #[arg(long, default_value = "0.0.0.0:9995")]
    pub(crate) admin_addr: SocketAddr,

    /// Our certificate, PEM. Read again when it changes.
    #[arg(long, value_name = "FILE", default_value = "/var/run/linkerd/tls/tls.crt")]
    pub(crate) tls_cert: PathBuf,

    /// Its private key, PEM. Read again when it changes.
    #[arg(long, value_name = "FILE", default_value = "/var/run/linkerd/tls/tls.key")]
    pub(crate) tls_key: PathBuf,

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

    /// A directory with manifests of namespaces (and of what owns pods), instead of a cluster; may be given more than once.
    #[arg(long, value_name = "DIR", required = true)]
    pub(crate) manifests: Vec<PathBuf>,

    /// The namespace of the control plane.
    #[arg(long, default_value = "linkerd", value_name = "NAME")]
    pub(crate) control_plane_namespace: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
    }
}
