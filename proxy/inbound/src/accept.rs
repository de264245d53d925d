//! First phase: classifies a connection and selects its target.

use std::rc::Rc;

use proxy_metrics::NoTls;
use proxy_model::{ServerAddr, ServerProtocol};
use proxy_tls::Alpn;
use proxy_transport::{PrefixedIo, copy::reset_on_drop};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::{
    Error, Worker,
    connection::{Addresses, Connection, TlsStatus},
    detect::{self, Protocol},
    direct, http,
    io::{ClientIo, SessionIo},
    policy::CurrentPolicy,
    tcp,
    tls::{self, SecuredIo},
};

/// Takes a connection through all its phases.
pub(crate) async fn accept(
    worker: &Rc<Worker>,
    socket: TcpStream,
    addresses: Addresses,
    drain: CancellationToken,
) -> Result<(), Error> {
    let orig_dst = addresses.orig_dst;
    let local_ips = &worker.config.local_ips;
    if !local_ips.is_empty() && !local_ips.contains(&orig_dst.0.ip()) {
        return Err(Error::NotLocal(orig_dst));
    }
    if orig_dst.0.port() == worker.config.port {
        return Box::pin(direct::accept(worker, socket, addresses, drain)).await;
    }
    let policy = CurrentPolicy::find(worker, orig_dst.0.port()).await;
    let mut policy = policy.inspect_err(|_| reset_on_drop(&socket))?;
    let SecuredIo { io, tls, .. } = if matches!(policy.current().protocol, ServerProtocol::Opaque) {
        // No bytes are inspected: the server may speak first, and TLS is the application's own.
        let io = ClientIo::Plain(PrefixedIo::plain(socket));
        SecuredIo {
            io,
            tls: TlsStatus::None(NoTls::PortSkipped),
            transport_header: false,
        }
    } else {
        Box::pin(tls::accept(worker, socket, Alpn::None)).await?
    };
    let connection = Connection::new(worker, addresses, ServerAddr(orig_dst.0), tls, policy);
    let io = connection.meter(io);
    match Box::pin(detect::protocol(&connection, io)).await? {
        (io, Protocol::Http1) => Box::pin(http::serve_http1(connection, io, drain)).await,
        (io, Protocol::Http2) => Box::pin(http::serve_http2(connection, io, drain)).await,
        (io, Protocol::Opaque) => opaque(&connection, io).await,
    }
}

/// Boxed, as every phase is: a connection should not hold room for phases it has passed or never enters.
pub(crate) async fn opaque(connection: &Connection, io: SessionIo) -> Result<(), Error> {
    Box::pin(tcp::forward(connection, io)).await
}
