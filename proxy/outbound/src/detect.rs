//! Protocol detection from a client's first bytes.

use std::{io, rc::Rc, time::Duration};

use bytes::BytesMut;
use proxy_core::detect::{self, Detected, Hello};
use proxy_model::limits::{DETECT_HTTP_BYTES, DETECT_TLS_BYTES};
use proxy_transport::{
    peek::{Peek, peek},
    timers,
};
use tokio::io::AsyncRead;

use crate::Error;

/// The first bytes of a connection and their protocol.
pub(crate) struct FirstBytes {
    pub(crate) bytes: BytesMut,
    pub(crate) detected: Detected,
}

/// Reads until HTTP is detected or ruled out. Silence for `time` rules it out.
pub(crate) async fn detect_http<I: AsyncRead + Unpin>(io: &mut I, time: Duration) -> Result<FirstBytes, Error> {
    let mut bytes = BytesMut::with_capacity(DETECT_HTTP_BYTES.value);
    let reading = peek(io, &mut bytes, DETECT_HTTP_BYTES.value, |bytes| {
        Some(detect::http(bytes)).filter(|detected| *detected != Detected::NeedMore)
    });
    let detected = match timers::timeout(time, reading).await {
        Ok(peeked) => known(peeked)?.unwrap_or(Detected::NotHttp),
        Err(_) => Detected::NotHttp,
    };
    Ok(FirstBytes { bytes, detected })
}

/// Reads a ClientHello. Returns the bytes and the server name.
pub(crate) async fn read_client_hello<I: AsyncRead + Unpin>(
    io: &mut I,
    time: Duration,
) -> Result<(BytesMut, Option<String>), Error> {
    let mut bytes = BytesMut::with_capacity(DETECT_HTTP_BYTES.value);
    let reading = peek(
        io,
        &mut bytes,
        DETECT_TLS_BYTES.value,
        |bytes| match detect::client_hello(bytes) {
            Hello::Hello { sni } => Some(sni),
            Hello::NotTls => Some(None),
            Hello::NeedMore => None,
        },
    );
    let timeout = || Error::Detect(Rc::new(io::ErrorKind::TimedOut.into()));
    let sni = known(timers::timeout(time, reading).await.map_err(|_| timeout())?)?;
    Ok((bytes, sni.flatten()))
}

/// Returns the result of looking at the first bytes; an end before the first byte is an error.
fn known<T>(peeked: io::Result<Peek<T>>) -> Result<Option<T>, Error> {
    match peeked {
        Ok(Peek::Known(known)) => Ok(Some(known)),
        Ok(Peek::Unknown) => Ok(None),
        Ok(Peek::Closed) => Err(Error::Detect(Rc::new(io::ErrorKind::UnexpectedEof.into()))),
        Err(error) => Err(Error::Detect(Rc::new(error))),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn detects_the_protocol_and_keeps_the_bytes() {
        for (parts, expected) in [
            (&["GET / HTTP/1.1\r\n", "host: a\r\n\r\n"][..], Detected::Http1),
            (&["PRI * HT", "TP/2.0\r\n\r\nSM\r\n\r\n"][..], Detected::Http2),
            (&["\u{1}\u{2}\u{3} some thing else"][..], Detected::NotHttp),
        ] {
            let (mut client, mut server) = tokio::io::duplex(256);
            let send = async {
                for part in parts {
                    client.write_all(part.as_bytes()).await.expect("open");
                    tokio::task::yield_now().await;
                }
            };
            let (first, ()) = tokio::join!(detect_http(&mut server, Duration::from_secs(5)), send);
            let first = first.unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(first.detected, expected, "{parts:?}");
            assert!(parts.concat().as_bytes().starts_with(&first.bytes));
        }
    }

    #[tokio::test]
    async fn treats_silence_as_not_http_and_an_early_end_as_an_error() {
        let (_client, mut server) = tokio::io::duplex(16);
        let first = detect_http(&mut server, Duration::from_millis(10))
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((first.detected, first.bytes.len()), (Detected::NotHttp, 0));
        let (client, mut server) = tokio::io::duplex(16);
        drop(client);
        assert!(matches!(
            detect_http(&mut server, Duration::from_secs(1)).await,
            Err(Error::Detect(_))
        ));
    }
}
