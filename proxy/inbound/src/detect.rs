//! Which protocol a connection to an application's port speaks: what the policy says, else what its first bytes say.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use proxy_core::detect::{self, Detected};
use proxy_http::Metered;
use proxy_model::{ServerProtocol, limits};
use proxy_transport::{PrefixedIo, timers};
use tokio::io::AsyncReadExt as _;

use crate::{
    Error,
    connection::{Connection, Tls},
    io::{ClientIo, SessionIo},
    policy::server_labels,
};

/// The protocol of a connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Http1,
    Http2,
    Opaque,
}

/// How the protocol is told.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum How {
    Known(Found),
    /// By the first bytes; what it is taken for if they don't come in time.
    Detect(Duration, Found),
}

/// Tells the protocol; the bytes that were looked at are still there.
pub(crate) async fn protocol(connection: &Connection, io: Metered<ClientIo>) -> Result<(SessionIo, Found), Error> {
    let policy = connection.policy();
    match how(
        &policy.protocol,
        &connection.tls,
        connection.worker.config.detect_timeout,
    ) {
        How::Known(found) => Ok((PrefixedIo::plain(io), found)),
        How::Detect(timeout, otherwise) => {
            let began = Instant::now();
            let result = look(io, timeout).await;
            let outcome = match &result {
                Ok((_, Some(Detected::Http1))) => "http/1",
                Ok((_, Some(Detected::Http2))) => "http/2",
                Ok((_, Some(_))) => "not_http",
                Ok((_, None)) => "read_timeout",
                Err(_) => "error",
            };
            let server = server_labels(&policy, connection.target.0.port());
            connection
                .worker
                .recorder
                .inbound_detected(&server, outcome, began.elapsed());
            let (io, detected) = result?;
            let found = match detected {
                Some(Detected::Http1) => Found::Http1,
                Some(Detected::Http2) => Found::Http2,
                Some(Detected::NotHttp | Detected::NeedMore) => Found::Opaque,
                None => otherwise,
            };
            Ok((io, found))
        }
    }
}

fn how(protocol: &ServerProtocol, tls: &Tls, default_timeout: Duration) -> How {
    match protocol {
        ServerProtocol::Detect { timeout, .. } => How::Detect(timeout.unwrap_or(default_timeout), Found::Opaque),
        // A meshed client may carry HTTP/1 in HTTP/2.
        ServerProtocol::Http1 { .. } => match tls {
            Tls::None(_) => How::Known(Found::Http1),
            Tls::Mesh(_) | Tls::Opaque(_) => How::Detect(default_timeout, Found::Http1),
        },
        ServerProtocol::Http2 { .. } | ServerProtocol::Grpc { .. } => How::Known(Found::Http2),
        ServerProtocol::Opaque | ServerProtocol::Tls => How::Known(Found::Opaque),
    }
}

/// Reads until the bytes say what they are; none if they don't in time.
async fn look(mut io: Metered<ClientIo>, timeout: Duration) -> Result<(SessionIo, Option<Detected>), Error> {
    let mut read = BytesMut::with_capacity(limits::DETECT_HTTP_BYTES.value);
    let looking = async {
        loop {
            let n = io.read_buf(&mut read).await?;
            if read.is_empty() {
                return Err(Error::Closed);
            }
            match detect::http(&read) {
                Detected::NeedMore if n != 0 && read.len() < limits::DETECT_HTTP_BYTES.value => {}
                detected => return Ok(detected),
            }
        }
    };
    let detected = match timers::timeout(timeout, looking).await {
        Ok(detected) => Some(detected?),
        Err(_) => None,
    };
    Ok((PrefixedIo::new(read, io), detected))
}
