//! What the operator decides once for the whole cluster.

use std::time::Duration;

use ipnet::IpNet;
use proxy_model::{
    endpoint::{Http2Params, KeepAlive},
    ports::{DEFAULT_OPAQUE, PortSet},
};

use crate::inbound::DefaultPolicy;

/// Configuration of the index.
#[derive(Clone, Debug)]
pub struct Config {
    /// Namespace of the control plane; part of every identity.
    pub control_plane_namespace: String,
    /// Trust domain of identities.
    pub identity_trust_domain: String,
    /// DNS domain of the cluster.
    pub cluster_domain: String,
    /// Policy of ports without a Server.
    pub default_inbound_policy: DefaultPolicy,
    /// Networks of pods and Services.
    pub cluster_networks: Vec<IpNet>,
    /// Networks from which probes come.
    pub probe_networks: Vec<IpNet>,
    /// Ports that are opaque unless something else is said.
    pub default_opaque_ports: PortSet,
    /// Namespace whose EgressNetworks hold for all clients that have none of their own.
    pub global_egress_namespace: String,
    /// HTTP/2 parameters for connections to meshed endpoints.
    pub meshed_http2: Option<Http2Params>,
}

impl Default for Config {
    fn default() -> Self {
        let networks = [
            "10.0.0.0/8",
            "100.64.0.0/10",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "fd00::/8",
        ];
        let keep_alive = KeepAlive {
            interval: Some(Duration::from_secs(10)),
            timeout: Some(Duration::from_secs(3)),
            while_idle: true,
        };
        Self {
            control_plane_namespace: "linkerd".to_owned(),
            identity_trust_domain: "cluster.local".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            default_inbound_policy: DefaultPolicy::AllUnauthenticated,
            cluster_networks: networks
                .iter()
                .map(|net| net.parse().expect("a constant network"))
                .collect(),
            probe_networks: everywhere(),
            default_opaque_ports: DEFAULT_OPAQUE.into_iter().collect(),
            global_egress_namespace: "linkerd-egress".to_owned(),
            meshed_http2: Some(Http2Params {
                keep_alive: Some(keep_alive),
                ..Http2Params::default()
            }),
        }
    }
}

impl Config {
    /// Identity of a service account.
    pub fn identity(&self, namespace: &str, service_account: &str) -> String {
        format!("{service_account}.{}", self.identity_suffix(namespace))
    }

    /// What the identities of all service accounts of a namespace end in.
    pub(crate) fn identity_suffix(&self, namespace: &str) -> String {
        let Self {
            control_plane_namespace,
            identity_trust_domain,
            ..
        } = self;
        format!("{namespace}.serviceaccount.identity.{control_plane_namespace}.{identity_trust_domain}")
    }
}

/// Every address.
pub(crate) fn everywhere() -> Vec<IpNet> {
    ["0.0.0.0/0", "::/0"]
        .iter()
        .map(|net| net.parse().expect("a constant network"))
        .collect()
}
