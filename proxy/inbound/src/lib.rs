//! Inbound: from the mesh to the application, one file per phase of a connection.
//!
//! ```text
//! accept -> tls -> (port | direct: transport header) -> detect
//!   detect -> http: request -> authorize -> ratelimit -> application
//!   detect -> tcp:             authorize              -> application
//! ```
//!
//! Everything that belongs to a connection is `!Send` and lives on the worker that accepted it. The policy is read for
//! each request (and watched for each opaque connection), so that updates apply to open connections. Only `authorize`
//! creates permits, and only a permit opens a connection to the application. This crate must not know outbound, nor how
//! policies are discovered.

mod accept;
mod application;
mod authorize;
mod body;
mod connection;
mod denials;
mod detect;
mod direct;
mod error;
mod http;
mod io;
mod policy;
mod ratelimit;
mod request;
mod tap;
mod tcp;
mod tls;

use std::{
    cell::Cell,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use proxy_discovery::Discovery;
use proxy_http::{server::ServerParams, tap::Registry};
use proxy_metrics::{Recorder, Target};
use proxy_model::{ClientAddr, OrigDstAddr, Reason, defaults, ports, ports::PortSet};
use proxy_tls::Tls;
use proxy_transport::Connect;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use application::Applications;
use connection::Addresses;
use denials::DenialLog;
pub use error::{DirectError, Error};
pub use ratelimit::RateLimits;

/// Configuration of the inbound side.
#[derive(Clone, Debug)]
pub struct Config {
    /// Port of the inbound listener: connections to it carry a transport header, connections through it to itself are
    /// loops.
    pub port: u16,
    /// Other ports of the proxy itself. Behind a transport header, which hides the port from NetworkPolicies, they are
    /// reached only where a Server names them.
    pub own_ports: PortSet,
    /// Addresses of this workload; connections to others are refused. Empty accepts any.
    pub local_ips: Vec<IpAddr>,
    /// Ports that the workload declares; connections to others are counted together.
    pub ports: PortSet,
    /// Time limit for a ClientHello, for a transport header, and for the first bytes where the policy sets none.
    pub detect_timeout: Duration,
    /// Parameters of connections to the application.
    pub connect: Connect,
    /// Idle time of HTTP/1 connections to the application.
    pub http1_idle: Duration,
    /// Parameters of the HTTP/2 server.
    pub http2: ServerParams,
    /// Refuses paths about which a policy decides differently once the application has decoded them.
    pub path_check: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            port: ports::INBOUND,
            own_ports: [ports::OUTBOUND, ports::TAP, ports::ADMIN].into_iter().collect(),
            local_ips: Vec::new(),
            ports: PortSet::default(),
            detect_timeout: defaults::DETECT_TIMEOUT,
            connect: Connect {
                timeout: defaults::INBOUND_CONNECT_TIMEOUT,
                ..Connect::default()
            },
            http1_idle: defaults::POOL_IDLE,
            http2: ServerParams::default(),
            path_check: true,
        }
    }
}

/// Dependencies of a worker. All but `metrics` are shared with the other workers.
#[derive(Debug)]
pub struct Deps {
    /// Policies from the control plane.
    pub discovery: Discovery,
    /// Identity of this workload.
    pub tls: Tls,
    /// Metrics recorder of this worker.
    pub metrics: Recorder,
    /// Tap observers.
    pub tap: Registry,
    /// Rate limits, counted once per process.
    pub rate_limits: RateLimits,
    /// Configuration.
    pub config: Config,
}

/// Inbound side of one worker.
#[derive(Debug)]
pub struct Worker {
    discovery: Discovery,
    tls: Tls,
    metrics: Recorder,
    tap: Registry,
    rate_limits: RateLimits,
    config: Config,
    applications: Applications,
    denials: DenialLog,
    /// Number of connections that wait for a policy.
    undecided: Cell<usize>,
}

impl Worker {
    /// Creates a worker without connections.
    pub fn new(deps: Deps) -> Rc<Self> {
        let Deps {
            discovery,
            tls,
            metrics,
            tap,
            rate_limits,
            config,
        } = deps;
        let applications = Applications::new(config.connect, config.http1_idle, metrics.clone());
        Rc::new(Self {
            discovery,
            tls,
            metrics,
            tap,
            rate_limits,
            config,
            applications,
            denials: DenialLog::default(),
            undecided: Cell::new(0),
        })
    }

    /// Serves one accepted connection until it ends. On `drain`, HTTP connections finish their current requests and
    /// end; opaque ones continue until both sides have closed.
    pub async fn serve(
        self: Rc<Self>,
        socket: TcpStream,
        orig_dst: OrigDstAddr,
        client: ClientAddr,
        drain: CancellationToken,
    ) {
        if let Err(error) = accept::accept(&self, socket, Addresses { orig_dst, client }, drain).await {
            let reason = error.reason();
            if let Some(label) = reason.and_then(|reason| reason.row().label) {
                let target = match error {
                    Error::NotLocal(_) => Target::UNKNOWN,
                    _ => self.target_labels(orig_dst.0),
                };
                self.metrics.inbound_tcp_error(target, label).inc();
            }
            let reason = reason.map_or("", Reason::code);
            tracing::debug!(%client, %orig_dst, reason, %error, "inbound connection ended early");
        }
    }

    /// Labels of an address whose policy is not known yet.
    fn target_labels(&self, addr: SocketAddr) -> Target {
        Target::declared(addr, self.config.ports.contains(addr.port()))
    }
}

#[cfg(test)]
mod tests;
