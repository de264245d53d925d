//! Configuration for the whole cluster.

use ipnet::IpNet;
use proxy_model::{
    DefaultPolicy, MeshNames, defaults,
    endpoint::Http2Params,
    ports::{DEFAULT_OPAQUE, PortSet},
};

/// Configuration of the index.
#[derive(Clone, Debug)]
pub struct Config {
    /// Namespace of the control plane; part of every identity.
    pub control_plane_namespace: String,
    /// Trust domain of identities.
    pub identity_trust_domain: String,
    /// DNS domain of the cluster.
    pub cluster_domain: String,
    /// Default policy for ports without a Server.
    pub default_inbound_policy: DefaultPolicy,
    /// Networks of pods and Services.
    pub cluster_networks: Vec<IpNet>,
    /// Networks that may probe.
    pub probe_networks: Vec<IpNet>,
    /// Ports that are opaque by default.
    pub default_opaque_ports: PortSet,
    /// Namespace whose EgressNetworks apply to clients without their own.
    pub global_egress_namespace: String,
    /// HTTP/2 parameters for connections to meshed endpoints.
    pub meshed_http2: Option<Http2Params>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            control_plane_namespace: defaults::CONTROL_PLANE_NAMESPACE.to_owned(),
            identity_trust_domain: defaults::TRUST_DOMAIN.to_owned(),
            cluster_domain: defaults::CLUSTER_DOMAIN.to_owned(),
            default_inbound_policy: DefaultPolicy::AllUnauthenticated,
            cluster_networks: defaults::cluster_networks(),
            probe_networks: defaults::EVERYWHERE.to_vec(),
            default_opaque_ports: DEFAULT_OPAQUE.into_iter().collect(),
            global_egress_namespace: defaults::EGRESS_NAMESPACE.to_owned(),
            meshed_http2: Some(Http2Params {
                keep_alive: Some(defaults::MESH_KEEP_ALIVE),
                ..Http2Params::default()
            }),
        }
    }
}

impl Config {
    /// Returns the identity of a service account.
    pub fn identity(&self, namespace: &str, service_account: &str) -> String {
        self.mesh_names().service_account(service_account, namespace)
    }

    /// Returns the suffix of the identities of all service accounts of a namespace.
    pub(crate) fn identity_suffix(&self, namespace: &str) -> String {
        self.mesh_names().service_accounts(namespace)
    }

    fn mesh_names(&self) -> MeshNames<'_> {
        MeshNames {
            control_plane_namespace: &self.control_plane_namespace,
            trust_domain: &self.identity_trust_domain,
        }
    }
}
