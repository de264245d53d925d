//! Environment of a real mesh-proxy whose control plane is scripted.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use proxy_model::{env, ports};

use crate::certificates::identity;

/// Socket mark of the sidecars.
pub const MARK: u32 = 2102;
/// Port of the application.
pub const BACKEND_PORT: u16 = 9000;
/// Port on which it echoes bytes.
pub const ECHO_PORT: u16 = 9002;

/// Address of the scripted control plane, on loopback in each namespace.
pub fn control_addr() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, ports::DESTINATION).into()
}

/// Address of the admin server of mesh-proxy.
pub fn admin_addr() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, ports::ADMIN).into()
}

/// Sidecar of the mesh.
pub struct Sidecar<'a> {
    /// Service account.
    pub account: &'a str,
    /// Address of its pod.
    pub address: Ipv4Addr,
    /// Threads.
    pub workers: usize,
}

/// Environment of a sidecar, as the injector would write it. Metrics, policy and tap are on.
pub fn environment(sidecar: &Sidecar<'_>, dir: &Path, anchors: &str) -> Vec<(&'static str, String)> {
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
