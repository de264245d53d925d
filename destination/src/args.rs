//! Command line and parsers of its values.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use destination_index::Config;
use destination_source::cluster::ClientOptions;
use ipnet::IpNet;
use proxy_model::{
    DefaultPolicy, defaults,
    ports::{self, PortSet},
};

/// Serves endpoints, profiles and policies to the proxies of the mesh.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "mesh-destination", version)]
pub(crate) struct Args {
    /// Directory of Kubernetes manifests; may be repeated. Objects of later directories replace those of earlier ones
    /// with the same kind, namespace and name. Changes are live in under a second
    #[arg(long, value_name = "DIR", required_unless_present = "kubernetes")]
    pub(crate) manifests: Vec<PathBuf>,

    /// Watch a Kubernetes cluster instead of --manifests
    #[arg(long, conflicts_with = "manifests")]
    pub(crate) kubernetes: bool,

    /// Kubeconfig of the cluster; by default the one kubectl uses, in a pod the pod's service account
    #[arg(long, value_name = "FILE", requires = "kubernetes", conflicts_with = "manifests")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig
    #[arg(long, value_name = "NAME", requires = "kubernetes", conflicts_with = "manifests")]
    pub(crate) context: Option<String>,

    /// Listen address of the Destination API (gRPC)
    #[arg(long, default_value_t = any_address(ports::DESTINATION))]
    pub(crate) destination_addr: SocketAddr,

    /// Listen address of the policy APIs (gRPC)
    #[arg(long, default_value_t = any_address(ports::POLICY))]
    pub(crate) policy_addr: SocketAddr,

    /// Listen address of /metrics, /ready, /live and /streams
    #[arg(long, default_value_t = any_address(ports::DESTINATION_ADMIN))]
    pub(crate) admin_addr: SocketAddr,

    /// Namespace of the control plane; part of every identity
    #[arg(long, default_value = defaults::CONTROL_PLANE_NAMESPACE, value_name = "NAME", value_parser = name)]
    pub(crate) control_plane_namespace: String,

    /// Trust domain: suffix of every identity
    #[arg(long, default_value = defaults::TRUST_DOMAIN, value_name = "NAME", value_parser = name)]
    pub(crate) identity_trust_domain: String,

    /// DNS domain of Services
    #[arg(long, default_value = defaults::CLUSTER_DOMAIN, value_name = "NAME", value_parser = name)]
    pub(crate) cluster_domain: String,

    /// Default inbound policy of ports without a Server or annotation
    #[arg(long, default_value_t, value_name = "POLICY")]
    pub(crate) default_inbound_policy: DefaultPolicy,

    /// Networks of pods and Services
    #[arg(
        long,
        default_value = defaults::CLUSTER_NETWORKS,
        value_name = "CIDRS",
        value_delimiter = ','
    )]
    pub(crate) cluster_networks: Vec<IpNet>,

    /// Ports that are opaque by default
    #[arg(long, default_value = "25,587,3306,4444,5432,6379,9300,11211", value_name = "PORTS")]
    pub(crate) default_opaque_ports: PortSet,
}

impl Args {
    /// Makes the configuration of the index.
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

    /// Cluster to watch; none if manifests are the source.
    pub(crate) fn cluster(&self) -> Option<ClientOptions> {
        self.kubernetes.then(|| ClientOptions {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            ..ClientOptions::default()
        })
    }
}

/// Returns the default listen address for a port.
fn any_address(port: u16) -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, port).into()
}

/// Parses a DNS name.
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
    fn command_line_is_valid_with_the_defaults_of_the_index() {
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
