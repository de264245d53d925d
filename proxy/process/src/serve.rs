//! The server of every program: what a connection may take, from accept to drain.
//!
//! ```text
//! accept ─▶ admit ─▶ TLS, or not ─▶ first bytes ─▶ HTTP/1 or HTTP/2 ─▶ service
//!             │ full                                                     │ stop
//!             └────▶ reserve: one probe, answered and closed             └────▶ drain
//! ```
//!
//! A program implements [`Acceptor`] (or takes [`Plain`]); [`Server`] does the rest. Each refusal is reported by its
//! [`Limit`].

mod admission;
mod calls;
mod connection;
pub mod limits;
mod refusals;
mod timed_io;

use std::{convert::Infallible, error::Error as StdError, fmt, future::Future, io, net::SocketAddr, sync::Arc};

use axum::Router;
use hyper::{
    Response,
    body::{Bytes, Incoming},
};
use hyper_util::service::TowerToHyperService;
use proxy_model::{
    ClientAddr,
    limits::{Limit, Value},
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use admission::{Admissions, Ticket};
pub use limits::Limits;
pub use refusals::Refusals;

/// Byte stream of any kind. One type, because each further one would cost a server's code once more.
pub type AnyIo = Box<dyn Io>;

/// Byte stream that HTTP is served on.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<I: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for I {}

type BoxError = Box<dyn StdError + Send + Sync>;

/// HTTP service of one connection: hyper's own services, and tower's (axum, tonic) by [`TowerToHyperService`].
pub trait HttpService:
    hyper::service::Service<
        hyper::Request<Incoming>,
        Response = Response<Self::Body>,
        Error: Into<BoxError>,
        Future: Send + 'static,
    > + Send
    + 'static
{
    /// Body of responses.
    type Body: hyper::body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static;
}

impl<S, B> HttpService for S
where
    S: hyper::service::Service<hyper::Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: hyper::body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Body = B;
}

/// Client of a connection, and the room that it was given.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Address of the peer.
    pub addr: SocketAddr,
    /// The connection is in the reserve: only probes are answered on it.
    pub probes_only: bool,
}

/// Turns an accepted socket into a byte stream and the service for it.
pub trait Acceptor: Send + Sync + 'static {
    /// Service of a connection.
    type Service: HttpService;

    /// Does the TLS handshake, if there is one. The time for it is limited.
    fn accept(
        &self,
        socket: TcpStream,
        client: Client,
    ) -> impl Future<Output = io::Result<(AnyIo, Self::Service)>> + Send;
}

/// Plaintext connections to a router (axum's, or tonic's by `Routes::into_axum_router`). The client's address
/// ([`ClientAddr`]) is an extension of each request.
#[derive(Clone, Debug)]
pub struct Plain {
    /// Service of connections with room.
    pub service: Router,
    /// Service of connections in the reserve.
    pub probes: Router,
}

impl Plain {
    /// Service of a connection of `client`.
    pub fn service(&self, client: Client) -> TowerToHyperService<Router> {
        TowerToHyperService::new(self.router(client))
    }

    /// The same, before it is a service.
    pub fn router(&self, client: Client) -> Router {
        let router = if client.probes_only {
            &self.probes
        } else {
            &self.service
        };
        router.clone().layer(axum::Extension(ClientAddr(client.addr)))
    }
}

impl Acceptor for Plain {
    type Service = TowerToHyperService<Router>;

    async fn accept(&self, socket: TcpStream, client: Client) -> io::Result<(AnyIo, Self::Service)> {
        Ok((Box::new(socket), self.service(client)))
    }
}

/// Accepts TLS with the configuration now in force.
pub async fn accept_tls(
    socket: TcpStream,
    config: &watch::Receiver<Option<Arc<ServerConfig>>>,
) -> io::Result<TlsStream<TcpStream>> {
    let config = config.borrow().clone();
    let config = config.ok_or_else(|| io::Error::other("no server certificate yet"))?;
    TlsAcceptor::from(config).accept(socket).await
}

/// Versions of HTTP that are served.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Either, by the first bytes.
    #[default]
    Detect,
    /// HTTP/2 alone.
    Http2,
}

/// Server of one listener.
#[derive(Clone)]
pub struct Server {
    /// Name in logs.
    pub name: &'static str,
    /// Versions of HTTP.
    pub protocol: Protocol,
    /// Bounds of all kinds.
    pub limits: Limits,
    /// Called with the limit of each refusal.
    pub refused: Arc<dyn Fn(Limit<Value>) + Send + Sync>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Server with the limits of [`Limits::default`]; `refused` counts what they refuse.
    pub fn new(name: &'static str, refused: impl Fn(Limit<Value>) + Send + Sync + 'static) -> Self {
        Self {
            name,
            protocol: Protocol::default(),
            limits: Limits::default(),
            refused: Arc::new(refused),
        }
    }

    /// Serves until `stop`; then connections end when their requests have, at the latest after the time for the drain.
    pub async fn serve<A: Acceptor>(
        self,
        listener: TcpListener,
        acceptor: A,
        stop: CancellationToken,
    ) -> Result<(), Infallible> {
        let (server, acceptor) = (Arc::new(self), Arc::new(acceptor));
        let admissions = Admissions::new(&server.limits);
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
                () = stop.cancelled() => break,
            };
            match accepted {
                Ok((socket, addr)) => {
                    let Some(ticket) = server.admit(&admissions, addr) else {
                        continue;
                    };
                    let (server, acceptor, stop) = (Arc::clone(&server), Arc::clone(&acceptor), stop.clone());
                    let displaced = ticket.displaced.clone();
                    connections.spawn(async move {
                        let served = server.connection(socket, &*acceptor, ticket, stop);
                        displaced.run_until_cancelled(served).await;
                    });
                }
                Err(error) => {
                    admissions.make_room();
                    server.pause(&error, &mut connections).await;
                }
            }
        }
        let drained = async { while connections.join_next().await.is_some() {} };
        if timeout(server.limits.drain.value, drained).await.is_err() {
            server.refuse(server.limits.drain.row());
        }
        Ok(())
    }

    fn admit(&self, admissions: &Admissions, addr: SocketAddr) -> Option<Ticket> {
        let (ticket, exceeded) = admissions.admit(addr);
        for limit in exceeded.into_iter().flatten() {
            self.refuse(limit);
        }
        ticket
    }

    /// Lets the system recover: without file descriptors, accepting at once would only fail again. A connection that
    /// ends leaves its descriptor to the next.
    async fn pause(&self, error: &io::Error, connections: &mut JoinSet<()>) {
        let pause = limits::ACCEPT_PAUSE;
        tracing::warn!(server = self.name, %error, "cannot accept a connection");
        self.refuse(pause.row());
        tokio::select! {
            () = tokio::time::sleep(pause.value) => {}
            Some(_) = connections.join_next() => {}
        }
    }

    fn refuse(&self, limit: Limit<Value>) {
        tracing::debug!(server = self.name, limit = limit.name, "refused");
        (self.refused)(limit);
    }
}

#[cfg(test)]
mod tests;
