//! The TLS phase: is there a ClientHello, and is it for us?

use std::time::Duration;

use bytes::BytesMut;
use proxy_core::detect::{self, Hello};
use proxy_metrics::NoTls;
use proxy_model::{Id, limits};
use proxy_tls::{Accepted, Alpn};
use proxy_transport::{
    PrefixedIo,
    peek::{Peek, peek},
    timers,
};
use tokio::net::TcpStream;

use crate::{Error, Worker, connection::TlsStatus, io::ClientIo};

/// First size of the buffer: a ClientHello with a hybrid key share has some 1500 bytes.
const READ_BYTES: usize = 2048;

/// A connection after this phase.
#[derive(Debug)]
pub(crate) struct SecuredIo {
    pub(crate) io: ClientIo,
    pub(crate) tls: TlsStatus,
    /// The client agreed to send a transport header.
    pub(crate) transport_header: bool,
}

/// Ends mesh TLS if the client asks for our name; anything else passes as it is.
pub(crate) async fn accept(worker: &Worker, mut socket: TcpStream, alpn: Alpn) -> Result<SecuredIo, Error> {
    let mut read = BytesMut::with_capacity(READ_BYTES);
    let timeout = worker.config.detect_timeout;
    let tls = match read_client_hello(&mut socket, &mut read, timeout).await? {
        Some(sni) if is_ours(&sni, worker.tls.local_id()) => {
            return terminate(worker, PrefixedIo::new(read, socket), alpn).await;
        }
        Some(sni) => TlsStatus::Opaque(sni.into()),
        None => TlsStatus::None(NoTls::NoTlsFromRemote),
    };
    Ok(SecuredIo {
        io: ClientIo::Plain(PrefixedIo::new(read, socket)),
        tls,
        transport_header: false,
    })
}

async fn terminate(worker: &Worker, io: PrefixedIo<TcpStream>, alpn: Alpn) -> Result<SecuredIo, Error> {
    let Accepted {
        io,
        client_id,
        transport_header,
    } = Box::pin(worker.tls.accept(io, alpn)).await?;
    Ok(SecuredIo {
        io: ClientIo::Tls(io),
        tls: TlsStatus::Mesh(client_id),
        transport_header,
    })
}

/// Reads until it is clear whether this is a ClientHello, and gives its SNI.
async fn read_client_hello(
    socket: &mut TcpStream,
    read: &mut BytesMut,
    timeout: Duration,
) -> Result<Option<String>, Error> {
    let reading = peek(
        socket,
        read,
        limits::DETECT_TLS_BYTES.value,
        |bytes| match detect::client_hello(bytes) {
            Hello::Hello { sni } => Some(sni),
            Hello::NotTls => Some(None),
            Hello::NeedMore => None,
        },
    );
    match timers::timeout(timeout, reading).await {
        Ok(Ok(Peek::Known(sni))) => Ok(sni),
        Ok(Ok(Peek::Unknown)) => Ok(None),
        Ok(Ok(Peek::Closed)) => Err(Error::Closed),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Error::TlsDetectTimeout),
    }
}

fn is_ours(sni: &str, local: &Id) -> bool {
    sni.eq_ignore_ascii_case(local.as_str())
}
