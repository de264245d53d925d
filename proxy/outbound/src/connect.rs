//! Connections to an endpoint: TCP, mesh TLS, transport header, and pooled HTTP connections.

use std::{net::SocketAddr, num::NonZeroU16, rc::Rc, sync::Arc};

use http::{Request, Response};
use proxy_http::{
    Body, SendError,
    client::{self, Http2},
    metered::Metered,
    pool::{Http1Pool, Http2Slot, Lease, SlotConnection},
};
use proxy_metrics::TransportSlot;
use proxy_model::{Endpoint, Http2Params, ServerAddr, TlsIdentity, defaults, endpoint::KeepAlive};
use proxy_tls::Alpn;
use proxy_transport::{
    ObservedTcp,
    header::{Header, SessionProtocol},
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::{
    Error,
    context::Context,
    io::{self, Stream},
};

/// Protocol on a connection to an endpoint. Each has connections of its own, as in upstream.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// HTTP/1 carried in HTTP/2.
    OrigProto,
    /// The client's own HTTP/2.
    Http2,
    /// HTTP/1, one request at a time.
    Http1,
    /// HTTP/1 on a connection for a single request.
    Http1Once,
}

/// Connection that can take a request.
pub(crate) enum EndpointConnection {
    /// The shared connection.
    Http2(SlotConnection),
    /// A connection for this request.
    Http1(Lease),
}

impl EndpointConnection {
    /// Generation of a shared connection in its slot.
    pub(crate) fn generation(&self) -> Option<u64> {
        match self {
            Self::Http2(shared) => Some(shared.generation),
            Self::Http1(_) => None,
        }
    }

    pub(crate) async fn send(self, request: &mut Request<Body>) -> Result<Response<Body>, SendError> {
        match self {
            Self::Http2(mut shared) => shared.connection.send(request).await,
            Self::Http1(lease) => lease.send(request).await,
        }
    }
}

/// Connections to one endpoint.
#[derive(Debug)]
pub(crate) struct Connector {
    context: Rc<Context>,
    model: Arc<Endpoint>,
    /// True if the endpoint is this workload itself.
    pub(crate) is_local: bool,
    orig_proto: Http2Slot<Error>,
    http2: Http2Slot<Error>,
    http1: Rc<Http1Pool>,
    transport: Arc<TransportSlot>,
}

impl Connector {
    pub(crate) fn new(
        context: &Rc<Context>,
        model: &Arc<Endpoint>,
        is_local: bool,
        transport: Arc<TransportSlot>,
    ) -> Rc<Self> {
        Rc::new(Self {
            context: context.clone(),
            model: model.clone(),
            is_local,
            orig_proto: Http2Slot::default(),
            http2: Http2Slot::default(),
            http1: Http1Pool::new(context.config.http1_idle, context.metrics.clone()),
            transport,
        })
    }

    /// Expected server identity; `None` means no TLS.
    pub(crate) fn identity(&self) -> Option<&TlsIdentity> {
        self.model.identity.as_ref().filter(|_| !self.is_local)
    }

    /// Returns a connection for one request. To connect is in a box, because each request has room for this future.
    pub(crate) async fn connection(self: &Rc<Self>, variant: Variant) -> Result<EndpointConnection, Error> {
        match variant {
            Variant::OrigProto | Variant::Http2 => {
                let connect = |connector: Rc<Self>| async move { connector.connect_http2().await };
                let shared = Http2Slot::get(self, move |connector| connector.slot(variant), connect).await?;
                Ok(EndpointConnection::Http2(shared))
            }
            Variant::Http1 => match self.http1.checkout() {
                Some(lease) => Ok(EndpointConnection::Http1(lease)),
                None => Ok(EndpointConnection::Http1(
                    self.http1.lease(Box::pin(self.connect_http1()).await?),
                )),
            },
            Variant::Http1Once => Ok(EndpointConnection::Http1(Lease::once(
                Box::pin(self.connect_http1()).await?,
            ))),
        }
    }

    pub(crate) fn slot(&self, variant: Variant) -> &Http2Slot<Error> {
        if variant == Variant::OrigProto {
            &self.orig_proto
        } else {
            &self.http2
        }
    }

    async fn connect_http2(&self) -> Result<Http2, Error> {
        let io = self.connect(Some(SessionProtocol::Http2)).await?;
        let mut params = self.model.http2.clone().unwrap_or_default();
        if params.keep_alive.is_none() && self.identity().is_some() {
            params = Http2Params {
                keep_alive: Some(MESHED_KEEP_ALIVE),
                ..params
            };
        }
        client::http2(io, &params).await.map_err(|error| self.error(error))
    }

    async fn connect_http1(&self) -> Result<client::Http1, Error> {
        let io = self.connect(Some(SessionProtocol::Http1)).await?;
        let close_observer = io::close_observer(io.get_ref());
        let connection = client::http1(io).await.map_err(|error| self.error(error))?;
        Ok(connection.with_close_observer(close_observer))
    }

    /// Connects, with the transport header for `session`; without a session, for opaque bytes.
    pub(crate) async fn connect(&self, session: Option<SessionProtocol>) -> Result<Metered<Stream>, Error> {
        let (addr, header) = self.route(session);
        let mut stream = self.open(addr, header.is_some()).await?;
        if let (Stream::Tls(tls), Some(header)) = (&mut stream, header) {
            let written = tls.write_all(&header.encode()).await;
            written.map_err(|error| self.unconnected(&error, false))?;
        }
        Ok(self.metered(stream))
    }

    /// Opens a connection, with mesh TLS if the endpoint has an identity.
    async fn open(&self, addr: SocketAddr, has_header: bool) -> Result<Stream, Error> {
        let io = self.tcp(addr).await?;
        let Some(identity) = self.identity() else {
            return Ok(Stream::Plain(ObservedTcp::new(io)));
        };
        let alpn = if has_header { Alpn::TransportHeader } else { Alpn::None };
        let tls = self.context.tls.connect(io, identity, alpn).await;
        let tls = tls.map_err(|error| self.unconnected(&error, matches!(error, proxy_tls::Error::Timeout(_))))?;
        Ok(Stream::Tls(tls))
    }

    /// Finds out whether the endpoint can be connected to. An HTTP/2 connection is kept for the next request; any other
    /// is closed before it carries a byte of the application's.
    pub(crate) async fn probe(self: &Rc<Self>, variant: Option<Variant>) -> Result<(), Error> {
        if let Some(variant @ (Variant::OrigProto | Variant::Http2)) = variant {
            return self.connection(variant).await.map(drop);
        }
        let (addr, header) = self.route(None);
        self.open(addr, header.is_some()).await.map(drop)
    }

    /// Address to connect to, and the transport header to send first.
    fn route(&self, session: Option<SessionProtocol>) -> (SocketAddr, Option<Header>) {
        let addr = self.model.addr;
        if self.identity().is_none() {
            return (addr, None);
        }
        let overridden = self.model.authority_override.as_ref();
        let session = session.filter(|_| self.model.hint != proxy_model::Hint::Opaque);
        let header = |port: u16| {
            let port = NonZeroU16::new(port)?;
            let name = overridden.map(|authority| authority.host().to_owned());
            Some(Header {
                port,
                name,
                protocol: session,
            })
        };
        match (self.model.opaque_transport_port, overridden) {
            (Some(port), _) => {
                let target = overridden.map_or(addr.port(), proxy_model::Authority::port);
                (SocketAddr::new(addr.ip(), port.get()), header(target))
            }
            // The address of a gateway is already its inbound port.
            (None, Some(authority)) => (addr, header(authority.port())),
            (None, None) => (addr, None),
        }
    }

    async fn tcp(&self, addr: SocketAddr) -> Result<TcpStream, Error> {
        let connected = self.context.config.connect.connect(ServerAddr(addr)).await;
        connected.map_err(|error| {
            let timeout = matches!(error, proxy_transport::Error::ConnectTimeout { .. });
            self.unconnected(&error, timeout)
        })
    }

    fn metered(&self, stream: Stream) -> Metered<Stream> {
        Metered::new(stream, self.transport.open())
    }

    fn unconnected(&self, error: &dyn std::error::Error, timeout: bool) -> Error {
        tracing::debug!(endpoint = %self.model.addr, %error, "cannot connect");
        Error::Connect {
            addr: self.model.addr,
            reason: format!("client error (Connect): {error}").into(),
            timeout,
        }
    }

    fn error(&self, error: proxy_http::Error) -> Error {
        Error::Connect {
            addr: self.model.addr,
            reason: error.to_string().into(),
            timeout: false,
        }
    }
}

/// Default PINGs to a sidecar: they detect a vanished peer while requests wait for it.
const MESHED_KEEP_ALIVE: KeepAlive = KeepAlive {
    while_idle: false,
    ..defaults::MESH_KEEP_ALIVE
};
