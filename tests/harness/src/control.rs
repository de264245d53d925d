//! A scripted control plane over real gRPC: Destination, both policy APIs, Identity.
//!
//! Answers are model values that can be replaced at any time; open streams follow. It can be stopped and restarted
//! at the same address, which to a proxy looks like an outage.

mod script;
mod service;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use proxy_api::wire::{
    destination::destination_server::DestinationServer, identity::identity_server::IdentityServer,
    inbound::inbound_server_policies_server::InboundServerPoliciesServer,
    outbound::outbound_policies_server::OutboundPoliciesServer,
};
use proxy_model::{ClientPolicy, EndpointSet, OutboundTarget, Profile, ServerPolicy};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;

pub use self::script::Call;
use self::{script::Script, service::Service};
use crate::{Owned, Pki};

/// The control plane, with all services at one address.
pub struct ControlPlane {
    script: Arc<Script>,
    addr: SocketAddr,
    running: Option<Running>,
}

struct Running {
    _server: Owned,
    /// Ends the streams: they belong to connections, which outlive the acceptor.
    stop: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl ControlPlane {
    /// Starts on loopback. Inbound ports allow all clients until another policy is set; nothing else is defined.
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().expect("an address"), Pki::new()).await
    }

    /// Starts at `addr` with the certificates of `pki`.
    pub async fn start_at(addr: SocketAddr, pki: Pki) -> Self {
        let script = Arc::new(Script::new(pki));
        let listener = TcpListener::bind(addr).await.expect("the address is free");
        let addr = listener.local_addr().expect("a bound socket has an address");
        let running = Some(serve(&script, listener));
        Self { script, addr, running }
    }

    /// Listen address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Issuer of the certificates that its Identity service signs.
    pub fn pki(&self) -> &Pki {
        &self.script.pki
    }

    /// Sets the policy of an outbound destination; `None` removes it, and streams end with NotFound.
    pub fn set_outbound(&self, target: &OutboundTarget, policy: Option<ClientPolicy>) {
        self.script.outbound.set(&target.to_string(), policy);
    }

    /// Sets the profile of `name:port` or `ip:port`; the default is an empty profile.
    pub fn set_profile(&self, path: &str, profile: Profile) {
        self.script.profiles.set(path, Some(profile));
    }

    /// Sets the endpoints of `name:port`; `None` removes them, and streams end with NotFound.
    pub fn set_endpoints(&self, path: &str, endpoints: Option<EndpointSet>) {
        self.script.endpoints.set(path, endpoints);
    }

    /// Sets the policy of an inbound port for every workload.
    pub fn set_inbound(&self, port: u16, policy: ServerPolicy) {
        self.script.inbound.set(&port.to_string(), Some(policy));
    }

    /// Calls received since the start, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.script.calls()
    }

    /// Waits for a call that matches `wanted`; false after five seconds.
    pub async fn asked(&self, wanted: impl Fn(&Call) -> bool) -> bool {
        let asked = async {
            while !self.calls().iter().any(&wanted) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), asked).await.is_ok()
    }

    /// Stops: streams break, connections are refused. Answers are kept and can be changed meanwhile.
    pub fn stop(&mut self) {
        self.running = None;
    }

    /// Restarts at the same address.
    pub async fn restart(&mut self) {
        self.stop();
        let listener = loop {
            // The acceptor's task may not have dropped the old socket yet.
            match TcpListener::bind(self.addr).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        self.running = Some(serve(&self.script, listener));
    }
}

fn serve(script: &Arc<Script>, listener: TcpListener) -> Running {
    let stop = CancellationToken::new();
    let service = Service {
        script: script.clone(),
        stop: stop.clone(),
    };
    let server = tonic::transport::Server::builder()
        .add_service(DestinationServer::new(service.clone()))
        .add_service(InboundServerPoliciesServer::new(service.clone()))
        .add_service(OutboundPoliciesServer::new(service.clone()))
        .add_service(IdentityServer::new(service));
    let stopped = stop.clone().cancelled_owned();
    let server = Owned::spawn(async move {
        let incoming = TcpListenerStream::new(listener);
        server
            .serve_with_incoming_shutdown(incoming, stopped)
            .await
            .expect("a listening socket can be served");
    });
    Running { _server: server, stop }
}
