//! Addresses that both ends agree on.

use std::net::{Ipv4Addr, SocketAddr};

pub(crate) use tests_harness::sidecar::{
    BACKEND_PORT, ECHO_PORT, MARK, Sidecar, admin_addr, control_addr, environment,
};

use crate::bare::Speaks;

/// End of the measurement.
#[derive(Copy, Clone, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    /// Sends requests
    Client,
    /// Serves them
    Server,
}

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
