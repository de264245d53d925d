//! From the mesh to the application: one file per phase of a connection's life.
//!
//! ```text
//! accept -> tls -> (port | direct: transport header) -> detect -> http: request -> authorize -> ratelimit -> application
//!                                                              \-> tcp:           authorize              -> application
//! ```
//!
//! Everything of a connection is `!Send` and lives on the worker that took it. The policy is read for each request (and
//! watched for each opaque connection), so that an update applies to connections already open. Only `authorize` makes a
//! permit, and only a permit opens a connection to the application.

mod accept;
mod application;
mod authorize;
mod body;
mod connection;
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

use std::{net::IpAddr, rc::Rc, time::Duration};

use proxy_discovery::Discovery;
use proxy_http::{pool, server::ServerParams, tap::Registry};
use proxy_metrics::Recorder;
use proxy_model::{ClientAddr, OrigDstAddr, ports};
use proxy_tls::Tls;
use proxy_transport::Connect;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use application::Applications;
pub use error::{DirectRefusal, Error};
pub use ratelimit::RateLimits;

/// How the inbound side behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Port of the inbound listener: connections to it carry a transport header, connections through it to itself are loops.
    pub port: u16,
    /// Addresses of this workload; a connection to another one is refused. Empty takes any.
    pub local_ips: Vec<IpAddr>,
    /// Time for a ClientHello, for a transport header, and for the first bytes where the policy says nothing.
    pub detect_timeout: Duration,
    /// How to connect to the application.
    pub connect: Connect,
    /// Time that an idle HTTP/1 connection to the application is kept.
    pub http1_idle: Duration,
    /// Parameters of the HTTP/2 server.
    pub http2: ServerParams,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            port: ports::INBOUND,
            local_ips: Vec::new(),
            detect_timeout: Duration::from_secs(10),
            connect: Connect::default(),
            http1_idle: pool::IDLE_TIMEOUT,
            http2: ServerParams::default(),
        }
    }
}

/// What a worker needs. All but the recorder are shared with the other workers.
#[derive(Debug)]
pub struct Deps {
    /// What the control plane says.
    pub discovery: Discovery,
    /// Who we are.
    pub tls: Tls,
    /// Counts; of this worker alone.
    pub recorder: Recorder,
    /// Who taps.
    pub tap: Registry,
    /// Rate limits, counted once per process.
    pub rate_limits: RateLimits,
    /// How to behave.
    pub config: Config,
}

/// The inbound side of one worker.
#[derive(Debug)]
pub struct Worker {
    discovery: Discovery,
    tls: Tls,
    recorder: Recorder,
    tap: Registry,
    rate_limits: RateLimits,
    config: Config,
    applications: Applications,
}

impl Worker {
    /// A worker without connections.
    pub fn new(deps: Deps) -> Rc<Self> {
        let Deps {
            discovery,
            tls,
            recorder,
            tap,
            rate_limits,
            config,
        } = deps;
        let applications = Applications::new(config.connect, config.http1_idle, recorder.clone());
        Rc::new(Self {
            discovery,
            tls,
            recorder,
            tap,
            rate_limits,
            config,
            applications,
        })
    }

    /// Serves one accepted connection until it ends. `drain` asks HTTP to finish what is under way and end; bytes go on
    /// until both sides have closed.
    pub async fn serve(
        self: Rc<Self>,
        socket: TcpStream,
        orig_dst: OrigDstAddr,
        client: ClientAddr,
        drain: CancellationToken,
    ) {
        if let Err(error) = accept::accept(&self, socket, (orig_dst, client), drain).await {
            if let Some(label) = error.label() {
                self.recorder.inbound_tcp_error(orig_dst.0, label).inc();
            }
            tracing::debug!(%client, %orig_dst, %error, "an inbound connection ended early");
        }
    }
}

#[cfg(test)]
mod tests;
