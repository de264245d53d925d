//! Defaults that more than one component relies on: names, networks, times. Upstream's figures unless noted.
//!
//! A default that must also stand in YAML (charts, CRDs) is compared with its constant here by a test of the chart.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{endpoint::KeepAlive, identity::MeshNames, profile::RetryBudget, route::Backoff};

/// Namespace of the control plane.
pub const CONTROL_PLANE_NAMESPACE: &str = "linkerd";
/// Namespace of mesh-viz.
pub const VIZ_NAMESPACE: &str = "linkerd-viz";
/// Namespace whose EgressNetworks apply to clients that have none of their own.
pub const EGRESS_NAMESPACE: &str = "linkerd-egress";
/// Suffix of all identities.
pub const TRUST_DOMAIN: &str = "cluster.local";
/// DNS domain of the cluster's Services.
pub const CLUSTER_DOMAIN: &str = "cluster.local";
/// Names that identities are made from, as a default installation has them.
pub const MESH_NAMES: MeshNames<'static> = MeshNames {
    control_plane_namespace: CONTROL_PLANE_NAMESPACE,
    trust_domain: TRUST_DOMAIN,
};

/// Networks of pods and Services, as flags and the environment spell them.
pub const CLUSTER_NETWORKS: &str = "10.0.0.0/8,100.64.0.0/10,172.16.0.0/12,192.168.0.0/16,fd00::/8";
/// All addresses.
pub const EVERYWHERE: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
];
/// The loopback addresses: always authorized, without authentication.
pub const LOOPBACK: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::LOCALHOST, 32)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
];

/// User that a proxy runs as; its traffic passes redirection.
pub const PROXY_UID: u32 = 2102;
/// Log filter of an injected proxy.
pub const PROXY_LOG: &str = "warn,linkerd=info,hickory=error";

/// Time for a connection's first bytes; afterwards it is opaque.
pub const DETECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time that an outbound lookup without users is kept.
pub const OUTBOUND_IDLE: Duration = Duration::from_secs(5);
/// Time that an inbound lookup without users is kept.
pub const INBOUND_IDLE: Duration = Duration::from_secs(90);
/// Time to connect to the application.
pub const INBOUND_CONNECT_TIMEOUT: Duration = Duration::from_millis(300);
/// Time to connect to an endpoint.
pub const OUTBOUND_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Time that no endpoint may be ready before requests fail.
pub const FAILFAST_TIMEOUT: Duration = Duration::from_secs(3);
/// Time that an idle HTTP/1 connection is pooled.
pub const POOL_IDLE: Duration = Duration::from_secs(3);
/// Time that a proxy's drain may take.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(120);
/// Earliest renewal of a leaf.
pub const MIN_REFRESH: Duration = Duration::from_secs(10);
/// Latest renewal of a leaf.
pub const MAX_REFRESH: Duration = Duration::from_secs(24 * 3600);
/// Time for the answer to an HTTP/2 PING.
pub const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// PINGs on HTTP/2 connections to meshed endpoints.
pub const MESH_KEEP_ALIVE: KeepAlive = KeepAlive {
    interval: Some(Duration::from_secs(10)),
    timeout: Some(PING_TIMEOUT),
    while_idle: true,
};

/// Retries of a request whose route sets no number.
pub const RETRIES: u16 = 1;
/// Pauses between retries.
pub const RETRY_BACKOFF: Backoff = Backoff {
    min: Duration::from_millis(25),
    max: Duration::from_millis(250),
    jitter: 1.0,
    respect_retry_after_hint: false,
};
/// Retries of a route as a share of its requests, where nothing else is said.
pub const RETRY_BUDGET: RetryBudget = RetryBudget {
    ratio: 0.2,
    min_per_second: 10,
    ttl: Some(Duration::from_secs(10)),
};
/// Time over which an endpoint's measured latency decays.
pub const LOAD_DECAY: Duration = Duration::from_secs(10);
/// Latency that a failure counts as, where failures are penalised.
pub const FAILURE_PENALTY: Duration = Duration::from_secs(5);
/// Longest `retry-after` that counts for the cost of an endpoint.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);
/// Pauses before a breaker probes an ejected endpoint.
pub const BREAKER_BACKOFF: Backoff = Backoff {
    min: Duration::from_secs(1),
    max: Duration::from_secs(60),
    jitter: 0.5,
    respect_retry_after_hint: false,
};

/// [`CLUSTER_NETWORKS`], parsed.
pub fn cluster_networks() -> Vec<IpNet> {
    CLUSTER_NETWORKS
        .split(',')
        .map(|net| net.parse().expect("a constant network"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_networks_are_the_private_ones() {
        let networks = cluster_networks();
        assert_eq!(networks.len(), 5);
        assert!(networks.iter().all(|net| net.trunc() == *net), "no host bits");
        let inside = |ip: &str| {
            networks
                .iter()
                .any(|net| net.contains(&ip.parse::<std::net::IpAddr>().expect("an IP")))
        };
        assert!(inside("10.1.2.3") && inside("fd12::1") && !inside("8.8.8.8") && !inside("2001:db8::1"));
    }

    #[test]
    fn everywhere_and_loopback_are_what_they_say() {
        assert_eq!(EVERYWHERE.map(|net| net.to_string()), ["0.0.0.0/0", "::/0"]);
        assert_eq!(LOOPBACK.map(|net| net.to_string()), ["127.0.0.1/32", "::1/128"]);
    }
}
