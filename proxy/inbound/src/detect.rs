//! Protocol detection on application ports: by policy, else by the first bytes.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use proxy_core::{
    authorize::requires_http,
    detect::{self, Detected},
};
use proxy_http::Metered;
use proxy_model::{ServerProtocol, limits};
use proxy_transport::{
    PrefixedIo,
    peek::{Peek, peek},
    timers,
};

use crate::{
    Error,
    connection::{Connection, TlsStatus},
    io::{ClientIo, SessionIo},
};

/// Protocol of a connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
    Opaque,
}

/// Means of finding the protocol.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Detection {
    Known(Protocol),
    /// By the first bytes within the timeout; with the protocol to assume otherwise.
    Detect(Duration, Protocol),
}

/// Returns the protocol; the inspected bytes remain readable.
pub(crate) async fn protocol(connection: &Connection, io: Metered<ClientIo>) -> Result<(SessionIo, Protocol), Error> {
    let policy = connection.policy();
    match detection(
        &policy.protocol,
        &connection.tls,
        connection.worker.config.detect_timeout,
    ) {
        Detection::Known(found) => Ok((PrefixedIo::plain(io), found)),
        Detection::Detect(timeout, otherwise) => {
            let mut io = io;
            let mut read = BytesMut::with_capacity(limits::DETECT_HTTP_BYTES.value);
            if requires_http(&policy.protocol) {
                Box::pin(first_bytes(&mut io, &mut read)).await?;
            }
            let began = Instant::now();
            let result = detect_http(io, read, timeout).await;
            let outcome = match &result {
                Ok((_, Some(Detected::Http1))) => "http/1",
                Ok((_, Some(Detected::Http2))) => "http/2",
                Ok((_, Some(_))) => "not_http",
                Ok((_, None)) => "read_timeout",
                Err(_) => "error",
            };
            let server = connection.server_labels(&policy);
            connection
                .worker
                .metrics
                .inbound_detected(&server, outcome, began.elapsed());
            let (io, detected) = result?;
            let found = match detected {
                Some(Detected::Http1) => Protocol::Http1,
                Some(Detected::Http2) => Protocol::Http2,
                Some(Detected::NotHttp | Detected::NeedMore) => Protocol::Opaque,
                None => otherwise,
            };
            Ok((io, found))
        }
    }
}

fn detection(protocol: &ServerProtocol, tls: &TlsStatus, default_timeout: Duration) -> Detection {
    match protocol {
        ServerProtocol::Detect { timeout, .. } => {
            Detection::Detect(timeout.unwrap_or(default_timeout), Protocol::Opaque)
        }
        // A meshed client may carry HTTP/1 in HTTP/2.
        ServerProtocol::Http1 { .. } => match tls {
            TlsStatus::None(_) => Detection::Known(Protocol::Http1),
            TlsStatus::Mesh(_) | TlsStatus::Opaque(_) => Detection::Detect(default_timeout, Protocol::Http1),
        },
        ServerProtocol::Http2 { .. } | ServerProtocol::Grpc { .. } => Detection::Known(Protocol::Http2),
        ServerProtocol::Opaque | ServerProtocol::Tls => Detection::Known(Protocol::Opaque),
    }
}

/// Waits for the first bytes of a connection that must be HTTP. It may be silent for longer than detection takes: bytes
/// that come later must be inspected, too.
async fn first_bytes(io: &mut Metered<ClientIo>, read: &mut BytesMut) -> Result<(), Error> {
    let reading = peek(io, read, limits::DETECT_HTTP_BYTES.value, |_| Some(()));
    match timers::timeout(limits::HTTP_SILENCE.value, reading).await {
        Ok(Ok(Peek::Closed)) => Err(Error::Closed),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Error::Silent),
    }
}

/// Reads on until the protocol is known; none if that takes too long.
async fn detect_http(
    mut io: Metered<ClientIo>,
    mut read: BytesMut,
    timeout: Duration,
) -> Result<(SessionIo, Option<Detected>), Error> {
    let detect = |bytes: &[u8]| Some(detect::http(bytes)).filter(|detected| *detected != Detected::NeedMore);
    if let Some(detected) = detect(&read).filter(|_| !read.is_empty()) {
        return Ok((PrefixedIo::new(read, io), Some(detected)));
    }
    let reading = peek(&mut io, &mut read, limits::DETECT_HTTP_BYTES.value, detect);
    let detected = match timers::timeout(timeout, reading).await {
        Ok(Ok(Peek::Known(detected))) => Some(detected),
        Ok(Ok(Peek::Unknown)) => Some(Detected::NotHttp),
        Ok(Ok(Peek::Closed)) => return Err(Error::Closed),
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => None,
    };
    Ok((PrefixedIo::new(read, io), detected))
}
