//! Start of mesh-proxy, and the addresses that both ends agree on.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use proxy_model::{env, ports};
use tests_harness::certificates::identity;

use crate::bare::Speaks;

/// End of the measurement.
#[derive(Copy, Clone, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    /// Sends requests
    Client,
    /// Serves them
    Server,
}

/// Socket mark of the sidecars.
pub(crate) const MARK: u32 = 2102;
/// Port of the application.
pub(crate) const BACKEND_PORT: u16 = 9000;
/// Port on which it echoes bytes.
pub(crate) const ECHO_PORT: u16 = 9002;
/// Ports of the bare server sides, which are not redirected.
pub(crate) const BARE_PORTS: [u16; 3] = [9003, 9004, 9005];
/// Port of the Service.
pub(crate) const SERVICE_PORT: u16 = 80;
/// Authority of its endpoints.
pub(crate) const SERVICE_PATH: &str = "server.bench.svc.cluster.local:80";
/// Port of the Service for bytes.
pub(crate) const TCP_PORT: u16 = 5432;
/// Authority of its endpoints.
pub(crate) const TCP_PATH: &str = "server.bench.svc.cluster.local:5432";

/// Address of the Service, which no interface has, like a ClusterIP.
pub(crate) fn service_addr() -> SocketAddr {
    (Ipv4Addr::new(10, 99, 0, 1), SERVICE_PORT).into()
}

/// Address of the Service for bytes.
pub(crate) fn tcp_addr() -> SocketAddr {
    (Ipv4Addr::new(10, 99, 0, 1), TCP_PORT).into()
}

/// Address of a bare server side.
pub(crate) fn bare_port(speaks: Speaks) -> u16 {
    BARE_PORTS[speaks as usize]
}

/// Address of the scripted control plane, on loopback in each namespace.
pub(crate) fn control_addr() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, ports::DESTINATION).into()
}

/// Address of the admin server of mesh-proxy.
pub(crate) fn admin_addr() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, ports::ADMIN).into()
}

/// Sidecar of the mesh.
pub(crate) struct Sidecar<'a> {
    /// Service account.
    pub(crate) account: &'a str,
    /// Address of its pod.
    pub(crate) address: Ipv4Addr,
    /// Threads.
    pub(crate) workers: usize,
}

/// Environment of a sidecar, as the injector would write it. Metrics, policy and tap are on.
pub(crate) fn environment(sidecar: &Sidecar<'_>, dir: &Path, anchors: &str) -> Vec<(&'static str, String)> {
    let Sidecar {
        account,
        address,
        workers,
    } = sidecar;
    let control = control_addr().to_string();
    let networks = "10.0.0.0/8".to_owned();
    let any = |port: u16| format!("0.0.0.0:{port}");
    vec![
        (env::CORES, workers.to_string()),
        (env::LOG, "warn".to_owned()),
        (env::DESTINATION_SVC_ADDR, control.clone()),
        (env::POLICY_SVC_ADDR, control.clone()),
        (env::IDENTITY_SVC_ADDR, control),
        (env::DESTINATION_PROFILE_NETWORKS, networks.clone()),
        (env::POLICY_CLUSTER_NETWORKS, networks),
        (env::POLICY_WORKLOAD, format!(r#"{{"ns":"bench", "pod":"{account}"}}"#)),
        (
            env::DESTINATION_CONTEXT,
            format!(r#"{{"ns":"bench", "nodeName":"bench", "pod":"{account}"}}"#),
        ),
        (env::INBOUND_DEFAULT_POLICY, "all-unauthenticated".to_owned()),
        (env::CONTROL_LISTEN_ADDR, any(ports::TAP)),
        (env::ADMIN_LISTEN_ADDR, any(ports::ADMIN)),
        (env::OUTBOUND_LISTEN_ADDRS, format!("127.0.0.1:{}", ports::OUTBOUND)),
        (env::INBOUND_LISTEN_ADDR, any(ports::INBOUND)),
        (env::INBOUND_IPS, address.to_string()),
        (env::INBOUND_PORTS, format!("{BACKEND_PORT},{ECHO_PORT}")),
        (env::TAP_SVC_NAME, identity("bench", "tap")),
        (env::IDENTITY_DIR, dir.join(account).display().to_string()),
        (env::IDENTITY_TRUST_ANCHORS, anchors.to_owned()),
        (env::IDENTITY_TOKEN_FILE, dir.join("token").display().to_string()),
        (env::IDENTITY_LOCAL_NAME, identity("bench", account)),
        (env::SOCKET_MARK, MARK.to_string()),
    ]
}
