//! Target of an attack: a listener of a program, and the address of the attacker.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::Result;
use proxy_model::ports;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    place::{ATTACKER, OUTSIDE, POD, SERVICE},
    raw::{self, From, Io, tls::Keys},
};

/// Time for bytes that a server may not want to read.
const WRITE: Duration = Duration::from_secs(2);

/// Listener of a program.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Listener {
    /// mesh-proxy: the application's port, redirected.
    Inbound,
    /// mesh-proxy: its own inbound port, for connections with a transport header.
    Direct,
    /// mesh-proxy: traffic of the application.
    Outbound,
    /// mesh-proxy: admin.
    Admin,
    /// mesh-proxy: tap.
    Tap,
    /// mesh-destination: `Destination`.
    Destination,
    /// mesh-destination: the policy APIs.
    Policy,
    /// mesh-identity: `Identity`.
    Identity,
    /// mesh-injector: webhooks.
    Injector,
    /// mesh-viz: tap as an aggregated API.
    TapApi,
}

impl Listener {
    /// Returns whether it is one of a sidecar.
    pub fn is_of_sidecar(self) -> bool {
        matches!(
            self,
            Self::Inbound | Self::Direct | Self::Outbound | Self::Admin | Self::Tap
        )
    }
}

/// Target of an attack.
#[derive(Clone)]
pub struct Target {
    /// Listener.
    pub listener: Listener,
    /// Its address.
    pub to: SocketAddr,
    /// Address of the attacker.
    pub from: From,
    /// Certificates that the attacker trusts, and its own.
    pub keys: Keys,
    /// Process.
    pub pid: u32,
}

impl Target {
    /// Target in a sidecar.
    pub fn in_sidecar(listener: Listener, keys: Keys, pid: u32) -> Self {
        let outside = |port| (POD, port, ATTACKER, Some(OUTSIDE));
        let (ip, port, address, mark) = match listener {
            Listener::Direct => outside(ports::INBOUND),
            Listener::Outbound => (SERVICE, 80, POD, None),
            Listener::Admin => outside(ports::ADMIN),
            Listener::Tap => outside(ports::TAP),
            _ => outside(tests_harness::sidecar::BACKEND_PORT),
        };
        Self {
            listener,
            to: (ip, port).into(),
            from: From { address, mark },
            keys,
            pid,
        }
    }

    /// The same from another address.
    pub fn from(&self, address: Ipv4Addr) -> Self {
        let from = From { address, ..self.from };
        Self { from, ..self.clone() }
    }

    /// Connects.
    pub async fn connect(&self) -> io::Result<TcpStream> {
        raw::connect(self.to, self.from).await
    }

    /// Connects to another port of the same host.
    pub async fn connect_port(&self, port: u16) -> io::Result<TcpStream> {
        raw::connect((self.to.ip(), port).into(), self.from).await
    }

    /// Connects; with TLS where the listener serves nothing else.
    pub async fn stream(&self) -> Result<Box<dyn Io>> {
        let socket = self.connect().await?;
        if !matches!(self.listener, Listener::Injector | Listener::TapApi) {
            return Ok(Box::new(socket));
        }
        let config = self.keys.config(&[b"h2"])?;
        Ok(Box::new(self.keys.connect(socket, &config).await?))
    }

    /// Opens connections one after the other and writes `bytes` on each, as far as the server reads them. Stops where
    /// the system has no more room, or after `most`.
    pub async fn many(&self, count: usize, bytes: &[u8], most: Duration) -> Vec<Box<dyn Io>> {
        let deadline = Instant::now() + most;
        let mut streams = Vec::new();
        while streams.len() < count && Instant::now() < deadline {
            let Ok(Ok(mut stream)) = timeout(WRITE, self.stream()).await else {
                break;
            };
            // A server that does not read, or has closed, is what is looked for later.
            let _ = timeout(WRITE, stream.write_all(bytes)).await;
            let _ = timeout(WRITE, stream.flush()).await;
            streams.push(stream);
        }
        streams
    }
}
