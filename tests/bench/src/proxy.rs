//! How mesh-proxy is started here, and the addresses that both ends agree on.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use proxy_model::{env, ports};
use tests_harness::certificates::identity;

/// Mark of the sidecars' sockets.
pub(crate) const MARK: u32 = 2102;
/// Where the application listens.
pub(crate) const BACKEND_PORT: u16 = 9000;
/// Where the bare server side listens; traffic to it is not redirected.
pub(crate) const BARE_PORT: u16 = 9001;
/// Port of the Service.
pub(crate) const SERVICE_PORT: u16 = 80;
/// What its endpoints are asked by.
pub(crate) const SERVICE_PATH: &str = "server.bench.svc.cluster.local:80";

/// The Service: an address that nobody has, as a ClusterIP is.
pub(crate) fn service_addr() -> SocketAddr {
    (Ipv4Addr::new(10, 99, 0, 1), SERVICE_PORT).into()
}

/// The scripted control plane, on loopback in each namespace.
pub(crate) fn control_addr() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, ports::DESTINATION).into()
}

/// Where mesh-proxy tells whether it is ready.
pub(crate) fn admin_addr() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, ports::ADMIN).into()
}

/// The environment of one sidecar, as the injector would write it. One worker; metrics and policy are on, as always.
pub(crate) fn environment(account: &str, address: Ipv4Addr, dir: &Path, anchors: &str) -> Vec<(&'static str, String)> {
    let control = control_addr().to_string();
    let networks = "10.0.0.0/8".to_owned();
    let any = |port: u16| format!("0.0.0.0:{port}");
    vec![
        (env::CORES, "1".to_owned()),
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
        (env::INBOUND_PORTS, BACKEND_PORT.to_string()),
        (env::IDENTITY_DIR, dir.join(account).display().to_string()),
        (env::IDENTITY_TRUST_ANCHORS, anchors.to_owned()),
        (env::IDENTITY_TOKEN_FILE, dir.join("token").display().to_string()),
        (env::IDENTITY_LOCAL_NAME, identity("bench", account)),
        (env::SOCKET_MARK, MARK.to_string()),
    ]
}
