//! Command line of the installer.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use proxy_model::ports;

/// CNI plugin that redirects pods' traffic to their sidecars, and its installer. Run by a container runtime, it is the
/// plugin.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "mesh-cni", version)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Commands.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Install the plugin on this node and keep it in place until a signal; then remove it, unless another pod follows.
    Install(Box<InstallArgs>),
}

/// Arguments of `mesh-cni install`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct InstallArgs {
    /// Plugin directory of the runtime, as mounted here.
    #[arg(long, value_name = "DIR", default_value = "/host/opt/cni/bin")]
    pub(crate) bin_dir: PathBuf,

    /// Network configuration directory of the runtime, as mounted here.
    #[arg(long, value_name = "DIR", default_value = "/host/etc/cni/net.d")]
    pub(crate) net_dir: PathBuf,

    /// Network configuration directory, as the runtime sees it.
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub(crate) host_net_dir: PathBuf,

    /// Configuration of the plugin, JSON; reloaded on change.
    #[arg(long, value_name = "FILE", default_value = "/etc/linkerd-cni/cni_network_config")]
    pub(crate) config: PathBuf,

    /// Directory of the service account's token and the cluster's certificate; the plugin gets them as a kubeconfig.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/run/secrets/kubernetes.io/serviceaccount"
    )]
    pub(crate) account_dir: PathBuf,

    /// Host of the API server, reachable from the node.
    #[arg(long, value_name = "HOST", env = "KUBERNETES_SERVICE_HOST")]
    pub(crate) api_host: String,

    /// Port of the API server.
    #[arg(long, value_name = "PORT", env = "KUBERNETES_SERVICE_PORT", default_value_t = 443)]
    pub(crate) api_port: u16,

    /// Address of /metrics, /ready and /live.
    #[arg(long, default_value_t = (Ipv4Addr::UNSPECIFIED, ports::CNI_ADMIN).into())]
    pub(crate) admin_addr: SocketAddr,

    /// Namespace of this pod.
    #[arg(long, value_name = "NAME", default_value = "linkerd-cni", env = "POD_NAMESPACE")]
    pub(crate) namespace: String,

    /// DaemonSet of this pod: while it exists, another pod follows.
    #[arg(long, value_name = "NAME", default_value = "linkerd-cni")]
    pub(crate) daemonset: String,

    /// Delete pods of this node that started before the plugin was installed and are not redirected.
    #[arg(long, requires = "node")]
    pub(crate) repair: bool,

    /// Taint to remove from the node once the plugin is installed; nodes that register with it get no pods before.
    #[arg(long, value_name = "KEY", requires = "node")]
    pub(crate) startup_taint: Option<String>,

    /// Node of this pod.
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub(crate) node: Option<String>,
}

impl InstallArgs {
    /// Returns the API server's URL.
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
    fn parses_the_command_line() {
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
            assert!(parsed(&["10.0.0.1", "--repair"]).is_err(), "--repair requires --node");
        }
    }
}
