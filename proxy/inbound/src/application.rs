//! Connections to the application: opened only with a permit, and reused across clients.
//!
//! The application identifies the client by a request header, never by the connection, so one pool serves all clients.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use http::{Request, Response, Version, header::HOST};
use http_body::Body as _;
use proxy_http::{
    Body, Metered, SendError, client,
    pool::{Http1Pool, Http2Slot, Lease, SlotConnection},
};
use proxy_metrics::{NoTls, Peer, Recorder, Target, Tls, TransportSlot};
use proxy_model::{Http2Params, ServerAddr, limits};
use proxy_transport::{Connect, ObservedTcp};
use rustc_hash::FxHashMap;
use tokio::net::TcpStream;

use crate::authorize::Permit;

/// Failure to get a response from the application.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Connecting failed: the request never arrived.
    Connect(Rc<proxy_transport::Error>),
    /// Too many connections are open: the request never arrived.
    TooMany,
    /// The exchange failed after connecting.
    Exchange(SendError),
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        Self::Exchange(error)
    }
}

impl Failure {
    /// Returns true if the request provably did not reach the application.
    pub(crate) fn never_arrived(&self) -> bool {
        match self {
            Self::Connect(_) | Self::TooMany => true,
            Self::Exchange(error) => error.never_arrived(),
        }
    }
}

/// Applications that a worker forwards to, by address.
#[derive(Debug)]
pub(crate) struct Applications {
    connect: Connect,
    http1_idle: Duration,
    metrics: Recorder,
    by_addr: RefCell<FxHashMap<ServerAddr, Rc<Application>>>,
}

impl Applications {
    pub(crate) fn new(connect: Connect, http1_idle: Duration, metrics: Recorder) -> Self {
        Self {
            connect,
            http1_idle,
            metrics,
            by_addr: RefCell::default(),
        }
    }

    /// Returns the application at an address, with its pools; `target` is the address as labels.
    pub(crate) fn at(&self, addr: ServerAddr, target: Target) -> Rc<Application> {
        let mut by_addr = self.by_addr.borrow_mut();
        if let Some(application) = by_addr.get(&addr) {
            return application.clone();
        }
        if by_addr.len() >= limits::APPLICATIONS.value {
            by_addr.retain(|_, application| Rc::strong_count(application) > 1 || !application.http1.is_empty());
        }
        let application = Rc::new(Application {
            connect: self.connect,
            transport: self.transport(target),
            http1: Http1Pool::new(self.http1_idle, self.metrics.clone()),
            http2: Http2Slot::default(),
        });
        if by_addr.len() < limits::APPLICATIONS.value {
            by_addr.insert(addr, application.clone());
        } else {
            self.metrics.limit_refused(limits::APPLICATIONS);
        }
        application
    }

    /// Opens a connection for opaque bytes.
    pub(crate) async fn open(
        &self,
        permit: &Permit,
        target: Target,
    ) -> Result<Metered<TcpStream>, proxy_transport::Error> {
        open(self.connect, &self.transport(target), permit.target()).await
    }

    fn transport(&self, target: Target) -> Arc<TransportSlot> {
        self.metrics
            .inbound_transport(Peer::Dst, target, &Tls::None(NoTls::Loopback), None)
    }
}

async fn open(
    connect: Connect,
    transport: &Arc<TransportSlot>,
    target: ServerAddr,
) -> Result<Metered<TcpStream>, proxy_transport::Error> {
    let socket = connect.connect(target).await?;
    Ok(Metered::new(socket, transport.open()))
}

/// Use of idle connections.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    Idle,
    /// The pod is terminating, and the application may close an idle connection just as a request goes out on it.
    Never,
}

/// HTTP connections to one application.
#[derive(Debug)]
pub(crate) struct Application {
    connect: Connect,
    transport: Arc<TransportSlot>,
    http1: Rc<Http1Pool>,
    http2: Http2Slot<Rc<proxy_transport::Error>>,
}

impl Application {
    /// Sends an HTTP/1 request over an idle connection if there is one, else over a new one. A request that an idle
    /// connection provably did not accept, because the application had closed it, goes over the next one.
    pub(crate) async fn send_http1(
        &self,
        permit: &Permit,
        request: &mut Request<Body>,
        reuse: Reuse,
    ) -> Result<Response<Body>, Failure> {
        if reuse == Reuse::Never || is_for_once(request) {
            return Ok(Lease::once(self.open_http1(permit).await?).send(request).await?);
        }
        for _ in 0..limits::NEVER_ARRIVED_ATTEMPTS.value {
            let Some(lease) = self.http1.checkout() else { break };
            let mut copy = copy(request);
            let failed = match lease.send(copy.as_mut().unwrap_or(request)).await {
                Ok(response) => return Ok(response),
                Err(failed) if failed.not_sent => continue,
                Err(failed) => failed,
            };
            // The application closed the connection just as the request went out. A request that it did not read, or
            // that may be repeated (RFC 9110, 9.2.2), is resent, elsewhere if need be; a body that is gone is still
            // available at the other end of the mesh.
            let may_again = failed.not_read || request.method().is_idempotent() && failed.error.is_closed_by_server();
            if copy.is_none() || !may_again {
                return Err(Failure::Exchange(failed));
            }
            break;
        }
        Ok(self.http1.lease(self.open_http1(permit).await?).send(request).await?)
    }

    /// Sends an HTTP/1 request that may end in an upgrade, over a connection of its own.
    pub(crate) async fn send_upgrade(
        &self,
        permit: &Permit,
        request: &mut Request<Body>,
    ) -> Result<Response<Body>, Failure> {
        let mut connection = self.open_http1(permit).await?;
        Ok(connection.send(request).await?.map(Body::Incoming))
    }

    /// Sends an HTTP/2 request over the single connection.
    pub(crate) async fn send_http2(
        self: &Rc<Self>,
        permit: &Permit,
        request: &mut Request<Body>,
    ) -> Result<Response<Body>, Failure> {
        let target = permit.target();
        let mut attempts = 0;
        loop {
            let connect = |application: Rc<Self>| async move { application.open_http2(target).await };
            let shared = Http2Slot::get(self, |application| &application.http2, connect).await;
            let SlotConnection {
                mut connection,
                generation,
            } = shared.map_err(Failure::Connect)?;
            attempts += 1;
            match connection.send(request).await {
                Ok(response) => return Ok(response),
                Err(failed) if failed.not_sent && attempts < limits::NEVER_ARRIVED_ATTEMPTS.value => {
                    self.http2.forget(generation);
                }
                Err(failed) => return Err(failed.into()),
            }
        }
    }

    async fn open_http2(&self, target: ServerAddr) -> Result<client::Http2, Rc<proxy_transport::Error>> {
        let io = open(self.connect, &self.transport, target).await.map_err(Rc::new)?;
        client::http2(io, &Http2Params::default())
            .await
            .map_err(|error| Rc::new(handshake_failed(target, error)))
    }

    async fn open_http1(&self, permit: &Permit) -> Result<client::Http1, Failure> {
        if self.transport.open_now() >= limits::APPLICATION_CONNECTIONS.value {
            self.http1.refused(limits::APPLICATION_CONNECTIONS);
            return Err(Failure::TooMany);
        }
        let socket = self.connect.connect(permit.target()).await;
        let io = ObservedTcp::new(socket.map_err(Rc::new).map_err(Failure::Connect)?);
        let (close_observer, io) = (io.close_observer(), Metered::new(io, self.transport.open()));
        let connection = client::http1(io)
            .await
            .map_err(|error| Failure::Connect(Rc::new(handshake_failed(permit.target(), error))))?;
        Ok(connection.with_close_observer(Some(close_observer)))
    }
}

fn handshake_failed(ServerAddr(addr): ServerAddr, error: proxy_http::Error) -> proxy_transport::Error {
    proxy_transport::Error::Connect {
        addr,
        source: std::io::Error::other(error),
    }
}

/// HTTP/1.0 requests, and those without a host, get a connection of their own.
fn is_for_once(request: &Request<Body>) -> bool {
    request.version() == Version::HTTP_10 || request.headers().get(HOST).is_none_or(http::HeaderValue::is_empty)
}

/// Copies a request that has no body.
fn copy(request: &mut Request<Body>) -> Option<Request<Body>> {
    if !request.body().is_end_stream() {
        return None;
    }
    let mut copy = Request::new(Body::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    // The original map has spare room for headers that the server adds, so it is the one that is sent.
    let headers = request.headers().clone();
    *copy.headers_mut() = std::mem::replace(request.headers_mut(), headers);
    Some(copy)
}
