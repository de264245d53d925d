//! The first phase: which kind of connection this is, and what it is for.

use std::rc::Rc;

use proxy_metrics::NoTls;
use proxy_model::{ClientAddr, OrigDstAddr, ServerAddr, ServerProtocol};
use proxy_tls::Alpn;
use proxy_transport::PrefixedIo;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::{
    Error, Worker,
    connection::{Connection, Tls},
    detect::{self, Found},
    direct, http,
    io::{ClientIo, SessionIo},
    policy::CurrentPolicy,
    tcp,
    tls::{self, Secured},
};

/// Takes a connection through all its phases.
pub(crate) async fn accept(
    worker: &Rc<Worker>,
    socket: TcpStream,
    (orig_dst, client): (OrigDstAddr, ClientAddr),
    drain: CancellationToken,
) -> Result<(), Error> {
    let local_ips = &worker.config.local_ips;
    if !local_ips.is_empty() && !local_ips.contains(&orig_dst.0.ip()) {
        return Err(Error::NotLocal(orig_dst));
    }
    if orig_dst.0.port() == worker.config.port {
        return Box::pin(direct::accept(worker, socket, (orig_dst, client), drain)).await;
    }
    let mut policy = CurrentPolicy::new(worker.discovery.inbound(orig_dst.0.port()));
    let Secured { io, tls, .. } = if matches!(policy.current().protocol, ServerProtocol::Opaque) {
        // Nothing is looked at: the server may speak first, and TLS is the application's own business.
        let io = ClientIo::Plain(PrefixedIo::plain(socket));
        Secured {
            io,
            tls: Tls::None(NoTls::PortSkipped),
            transport_header: false,
        }
    } else {
        Box::pin(tls::accept(worker, socket, Alpn::None)).await?
    };
    let connection = Connection::new(worker, (orig_dst, client), ServerAddr(orig_dst.0), (tls, policy));
    let io = connection.meter(io);
    match Box::pin(detect::protocol(&connection, io)).await? {
        (io, Found::Http1) => Box::pin(http::serve1(connection, io, drain)).await,
        (io, Found::Http2) => Box::pin(http::serve2(connection, io, drain)).await,
        (io, Found::Opaque) => opaque(&connection, io).await,
    }
}

/// Boxed, as every phase is: a connection should not have room for what it no longer is, nor for what it never becomes.
pub(crate) async fn opaque(connection: &Connection, io: SessionIo) -> Result<(), Error> {
    Box::pin(tcp::forward(connection, io)).await
}
