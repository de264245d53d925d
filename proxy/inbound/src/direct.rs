//! Connections to the proxy's own port: another proxy names the target in a transport header.

use std::{net::SocketAddr, rc::Rc};

use proxy_model::ServerAddr;
use proxy_tls::Alpn;
use proxy_transport::{
    PrefixedIo,
    copy::reset_on_drop,
    header::{Header, SessionProtocol},
    timers,
};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::{
    DirectError, Error, Worker, accept,
    connection::{Addresses, Connection, TlsStatus, has_server},
    http,
    policy::CurrentPolicy,
    tls::{self, SecuredIo},
};

/// Takes a connection with a transport header through its remaining phases, or rejects it.
pub(crate) async fn accept(
    worker: &Rc<Worker>,
    socket: TcpStream,
    addresses: Addresses,
    drain: CancellationToken,
) -> Result<(), Error> {
    let mut secured = Box::pin(tls::accept(worker, socket, Alpn::TransportHeader)).await?;
    check(&secured)?;
    let reading = Header::read(&mut secured.io);
    let header = Box::pin(timers::timeout(worker.config.detect_timeout, reading)).await;
    let (header, rest) = header
        .map_err(|_| DirectError::HeaderTimeout)?
        .map_err(DirectError::Header)?;
    let target = SocketAddr::new(addresses.orig_dst.0.ip(), header.port.get());
    count(worker, &header, target, &secured.tls);
    if let Some(name) = header.name {
        return Err(DirectError::NoGateway(name).into());
    }
    let port = header.port.get();
    if port == worker.config.port {
        return Err(Error::Loop(port));
    }
    let policy = CurrentPolicy::find(worker, port).await;
    let policy = policy.inspect_err(|_| reset_on_drop(secured.io.get_ref().get_ref()))?;
    let connection = Connection::new(worker, addresses, ServerAddr(target), secured.tls, policy);
    if worker.config.own_ports.contains(port) && !has_server(&connection.policy()) {
        return Err(DirectError::OwnPort(port).into());
    }
    let io = PrefixedIo::new(rest, connection.meter(secured.io));
    match header.protocol {
        Some(SessionProtocol::Http1) => Box::pin(http::serve_http1(connection, io, drain)).await,
        Some(SessionProtocol::Http2) => Box::pin(http::serve_http2(connection, io, drain)).await,
        None => accept::opaque(&connection, io).await,
    }
}

fn check(secured: &SecuredIo) -> Result<(), DirectError> {
    match &secured.tls {
        TlsStatus::Mesh(Some(_)) if secured.transport_header => Ok(()),
        TlsStatus::Mesh(Some(_)) => Err(DirectError::NoTransportHeader),
        TlsStatus::Mesh(None) => Err(DirectError::NoClientId),
        TlsStatus::Opaque(_) | TlsStatus::None(_) => Err(DirectError::NoTls),
    }
}

fn count(worker: &Worker, header: &Header, target: SocketAddr, tls: &TlsStatus) {
    let session = match header.protocol {
        Some(SessionProtocol::Http1) => "http/1",
        Some(SessionProtocol::Http2) => "http/2",
        None => "",
    };
    let client = match tls {
        TlsStatus::Mesh(Some(id)) => id.as_str(),
        _ => "",
    };
    let target = worker.target_labels(target);
    worker.metrics.transport_header(session, target, client).inc();
}
