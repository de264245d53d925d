//! The command line of what installs the plugin.

use std::{net::SocketAddr, path::PathBuf};

/// Redirects pods' traffic to their sidecars, as a CNI plugin. Called by a container runtime it is that plugin.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "mesh-cni", version)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Install the plugin on this node and keep it there, until a signal; then take it away, unless another of us comes.
    Install(Box<InstallArgs>),
}

/// What `mesh-cni install` understands.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct InstallArgs {
    /// The runtime's folder of plugins, as this program sees it.
    #[arg(long, value_name = "DIR", default_value = "/host/opt/cni/bin")]
    pub(crate) bin_dir: PathBuf,

    /// The runtime's folder of network configurations, as this program sees it.
    #[arg(long, value_name = "DIR", default_value = "/host/etc/cni/net.d")]
    pub(crate) net_dir: PathBuf,

    /// The same folder, as the runtime sees it.
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub(crate) host_net_dir: PathBuf,

    /// The plugin's configuration, JSON. Read again when it changes.
    #[arg(long, value_name = "FILE", default_value = "/etc/linkerd-cni/cni_network_config")]
    pub(crate) config: PathBuf,

    /// The service account's token and the cluster's certificate; the plugin gets them as a kubeconfig.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/run/secrets/kubernetes.io/serviceaccount"
    )]
    pub(crate) account_dir: PathBuf,

    /// Where the API server is, as the node reaches it.
    #[arg(long, value_name = "HOST", env = "KUBERNETES_SERVICE_HOST")]
    pub(crate) api_host: String,

    /// Its port.
    #[arg(long, value_name = "PORT", env = "KUBERNETES_SERVICE_PORT", default_value_t = 443)]
    pub(crate) api_port: u16,

    /// Where to serve /metrics, /ready and /live.
    #[arg(long, default_value = "0.0.0.0:9990")]
    pub(crate) admin_addr: SocketAddr,

    /// Our own namespace.
    #[arg(long, value_name = "NAME", default_value = "linkerd-cni", env = "POD_NAMESPACE")]
    pub(crate) namespace: String,

    /// The DaemonSet that we belong to: while it is there, another of us comes after us.
    #[arg(long, value_name = "NAME", default_value = "linkerd-cni")]
    pub(crate) daemonset: String,

    /// Delete pods of this node whose traffic is not redirected because they started before the plugin was there.
    #[arg(long, requires = "node")]
    pub(crate) repair: bool,

    /// Take the taint of this name from the node when the plugin is in place: nodes that come with it get no pod before.
    #[arg(long, value_name = "KEY", requires = "node")]
    pub(crate) startup_taint: Option<String>,

    /// The node that we are on.
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub(crate) node: Option<String>,
}

impl InstallArgs {
    /// The API server's address.
    pub(crate) fn server(&self) -> String {
        if self.api_host.contains(':') {
            format!("https://[{}]:{}", self.api_host, self.api_port)
        } else {
            format!("https://{}:{}", self.api_host, self.api_port)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
        let parsed = |more: &[&str]| {
            let line = [&["mesh-cni", "install", "--api-host"], more].concat();
            Args::try_parse_from(line).map(|args| match args.command {
                Command::Install(args) => args.server(),
            })
        };
        assert_eq!(parsed(&["10.0.0.1"]).expect("valid"), "https://10.0.0.1:443");
        assert_eq!(
            parsed(&["fd00::1", "--api-port", "6443"]).expect("valid"),
            "https://[fd00::1]:6443"
        );
        if std::env::var_os("NODE_NAME").is_none() {
            assert!(parsed(&["10.0.0.1", "--repair"]).is_err(), "a repair is of one node");
        }
    }
}
