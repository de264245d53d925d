//! The command line, and its texts as values.

use std::{net::SocketAddr, path::PathBuf};

use destination_index::{Config, DefaultPolicy};
use ipnet::IpNet;
use proxy_model::ports::PortSet;

/// Tells the proxies of the mesh what they need to know of the cluster.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "mesh-destination", version)]
pub(crate) struct Args {
    /// A directory of Kubernetes manifests; may be given several times. An object of a later directory replaces one of the
    /// same kind, namespace and name of an earlier one. Changes are live in under a second.
    #[arg(long, value_name = "DIR", required_unless_present = "kubernetes")]
    pub(crate) manifests: Vec<PathBuf>,

    /// Watch a Kubernetes cluster instead of --manifests.
    #[arg(long, conflicts_with = "manifests")]
    pub(crate) kubernetes: bool,

    /// The kubeconfig that says where the cluster is; by default as kubectl finds it, in a pod the pod's own files.
    #[arg(long, value_name = "FILE", requires = "kubernetes", conflicts_with = "manifests")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig.
    #[arg(long, value_name = "NAME", requires = "kubernetes", conflicts_with = "manifests")]
    pub(crate) context: Option<String>,

    /// Where to serve the Destination API (gRPC).
    #[arg(long, default_value = "0.0.0.0:8086")]
    pub(crate) destination_addr: SocketAddr,

    /// Where to serve the policy APIs (gRPC).
    #[arg(long, default_value = "0.0.0.0:8090")]
    pub(crate) policy_addr: SocketAddr,

    /// Where to serve /metrics, /ready, /live and /streams.
    #[arg(long, default_value = "0.0.0.0:9996")]
    pub(crate) admin_addr: SocketAddr,

    /// The namespace of the control plane; a part of every identity.
    #[arg(long, default_value = "linkerd", value_name = "NAME", value_parser = name)]
    pub(crate) control_plane_namespace: String,

    /// The suffix of every identity.
    #[arg(long, default_value = "cluster.local", value_name = "NAME", value_parser = name)]
    pub(crate) identity_trust_domain: String,

    /// The DNS domain of Services.
    #[arg(long, default_value = "cluster.local", value_name = "NAME", value_parser = name)]
    pub(crate) cluster_domain: String,

    /// The policy of ports for which nothing else is said.
    #[arg(long, default_value = "all-unauthenticated", value_name = "POLICY")]
    pub(crate) default_inbound_policy: DefaultPolicy,

    /// The networks of pods and Services.
    #[arg(
        long,
        default_value = "10.0.0.0/8,100.64.0.0/10,172.16.0.0/12,192.168.0.0/16,fd00::/8",
        value_name = "CIDRS",
        value_delimiter = ','
    )]
    pub(crate) cluster_networks: Vec<IpNet>,

    /// Ports that are opaque unless something else is said.
    #[arg(long, default_value = "25,587,3306,4444,5432,6379,9300,11211", value_name = "PORTS")]
    pub(crate) default_opaque_ports: PortSet,
}

impl Args {
    /// What the index needs of it.
    pub(crate) fn config(&self) -> Config {
        Config {
            control_plane_namespace: self.control_plane_namespace.clone(),
            identity_trust_domain: self.identity_trust_domain.clone(),
            cluster_domain: self.cluster_domain.clone(),
            default_inbound_policy: self.default_inbound_policy,
            cluster_networks: self.cluster_networks.clone(),
            default_opaque_ports: self.default_opaque_ports.clone(),
            ..Config::default()
        }
    }
}

/// Reads a DNS name.
fn name(text: &str) -> Result<String, String> {
    match text.parse::<proxy_model::Id>() {
        Ok(proxy_model::Id::Dns(name)) => Ok(name.to_string()),
        _ => Err(format!("{text:?} is not a DNS name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound_and_its_defaults_are_the_index_own() {
        use clap::{CommandFactory as _, Parser as _};
        Args::command().debug_assert();
        let args = Args::parse_from(["mesh-destination", "--manifests", "a", "--manifests", "b"]);
        assert_eq!(args.manifests.len(), 2);
        let (ours, default) = (args.config(), Config::default());
        assert_eq!(ours.cluster_networks, default.cluster_networks);
        assert_eq!(ours.default_opaque_ports, default.default_opaque_ports);
        let refused = |flag: &str, value: &str| {
            Args::try_parse_from(["mesh-destination", "--manifests", "a", flag, value])
                .expect_err("refused")
                .to_string()
        };
        assert!(refused("--default-inbound-policy", "maybe").contains("is not one of"));
        assert!(refused("--policy-addr", "0.0.0.0:99999").contains("--policy-addr"));
        assert!(refused("--cluster-networks", "10.0.0.0/99").contains("--cluster-networks"));
        assert!(refused("--context", "c").contains("--context"));
        let parsed = |line: &[&str]| Args::try_parse_from([&["mesh-destination"], line].concat());
        assert!(parsed(&["--kubernetes"]).is_ok());
        assert!(parsed(&["--kubernetes", "--manifests", "a"]).is_err() && parsed(&[]).is_err());
    }
}
