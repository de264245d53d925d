//! Transport header: metadata that one sidecar sends another about a connection, as the first bytes inside TLS.
//!
//! ```text
//! "transport.l5d.io/v1\r\n\r\n"   u32 length, big-endian   protobuf message
//! message: 1 port, 2 name, 3 session_protocol { 1 http_1 | 2 http_2 }
//! ```

use std::num::NonZeroU16;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use proxy_model::limits;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::Error;

const PREFACE: &[u8] = b"transport.l5d.io/v1\r\n\r\n";
const LENGTH_BYTES: usize = 4;
/// Initial size of the read buffer; headers are about ten bytes long, and the session's first bytes follow.
const READ_BYTES: usize = 1024;

/// Contents of a transport header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Destination port of the connection.
    pub port: NonZeroU16,
    /// Destination host; set for gateways only.
    pub name: Option<String>,
    /// Protocol of the session; `None` for opaque bytes.
    pub protocol: Option<SessionProtocol>,
}

/// Protocol of the bytes that follow the header.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum SessionProtocol {
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
}

#[derive(Clone, PartialEq, Message)]
struct Wire {
    #[prost(int32, tag = "1")]
    port: i32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, optional, tag = "3")]
    session_protocol: Option<WireProtocol>,
}

#[derive(Clone, PartialEq, Message)]
struct WireProtocol {
    #[prost(oneof = "WireKind", tags = "1, 2")]
    kind: Option<WireKind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum WireKind {
    #[prost(message, tag = "1")]
    Http1(()),
    #[prost(message, tag = "2")]
    Http2(()),
}

impl Header {
    /// Creates a header without a host name.
    pub fn port(port: NonZeroU16, protocol: Option<SessionProtocol>) -> Self {
        Self {
            port,
            name: None,
            protocol,
        }
    }

    /// Returns the bytes that open a stream.
    pub fn encode(&self) -> Bytes {
        let kind = |protocol| match protocol {
            SessionProtocol::Http1 => WireKind::Http1(()),
            SessionProtocol::Http2 => WireKind::Http2(()),
        };
        let wire = Wire {
            port: i32::from(self.port.get()),
            name: self.name.clone().unwrap_or_default(),
            session_protocol: self.protocol.map(|protocol| WireProtocol {
                kind: Some(kind(protocol)),
            }),
        };
        let len = wire.encoded_len();
        let mut buf = BytesMut::with_capacity(PREFACE.len() + LENGTH_BYTES + len);
        buf.put_slice(PREFACE);
        buf.put_u32(len as u32);
        wire.encode(&mut buf).expect("the buffer grows");
        buf.freeze()
    }

    /// Takes a header off the front of `buf`; `None` means that more bytes are needed.
    pub fn decode(buf: &mut BytesMut) -> Result<Option<Self>, Error> {
        let seen = buf.len().min(PREFACE.len());
        if buf[..seen] != PREFACE[..seen] {
            return Err(Error::Header("missing preface"));
        }
        let Some(mut length) = buf.get(PREFACE.len()..PREFACE.len() + LENGTH_BYTES) else {
            return Ok(None);
        };
        let len = length.get_u32() as usize;
        if len > limits::TRANSPORT_HEADER_BYTES.value {
            return Err(Error::Header("longer than 64 KiB"));
        }
        if buf.len() < PREFACE.len() + LENGTH_BYTES + len {
            return Ok(None);
        }
        buf.advance(PREFACE.len() + LENGTH_BYTES);
        let wire = Wire::decode(buf.split_to(len)).map_err(|_| Error::Header("malformed protobuf message"))?;
        let port = u16::try_from(wire.port).ok().and_then(NonZeroU16::new);
        let port = port.ok_or(Error::Header("port out of range 1-65535"))?;
        let protocol = wire.session_protocol.and_then(|p| p.kind).map(|kind| match kind {
            WireKind::Http1(()) => SessionProtocol::Http1,
            WireKind::Http2(()) => SessionProtocol::Http2,
        });
        Ok(Some(Self {
            port,
            name: Some(wire.name).filter(|n| !n.is_empty()),
            protocol,
        }))
    }

    /// Reads a header, and returns it with the session bytes that followed. The caller limits the time.
    pub async fn read<I: AsyncRead + Unpin>(io: &mut I) -> Result<(Self, Bytes), Error> {
        let mut buf = BytesMut::with_capacity(READ_BYTES);
        loop {
            if let Some(header) = Self::decode(&mut buf)? {
                return Ok((header, buf.freeze()));
            }
            if io.read_buf(&mut buf).await? == 0 {
                return Err(Error::Header("stream ended within the header"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(port: u16, protocol: Option<SessionProtocol>) -> Header {
        Header::port(NonZeroU16::new(port).expect("not 0"), protocol)
    }

    #[test]
    fn encoding_matches_recorded_bytes() {
        let golden: [(Header, &[u8]); 3] = [
            (
                header(8080, Some(SessionProtocol::Http2)),
                &[0, 0, 0, 7, 0x08, 0x90, 0x3f, 0x1a, 2, 0x12, 0],
            ),
            (
                header(8080, Some(SessionProtocol::Http1)),
                &[0, 0, 0, 7, 0x08, 0x90, 0x3f, 0x1a, 2, 0x0a, 0],
            ),
            (header(3306, None), &[0, 0, 0, 3, 0x08, 0xea, 0x19]),
        ];
        for (header, tail) in golden {
            let bytes = header.encode();
            assert_eq!(&bytes[..23], b"transport.l5d.io/v1\r\n\r\n");
            assert_eq!(&bytes[23..], tail);
            let mut buf = BytesMut::from(&bytes[..]);
            buf.extend_from_slice(b"session");
            assert_eq!(Header::decode(&mut buf).expect("valid"), Some(header));
            assert_eq!(&buf[..], b"session");
        }
    }

    #[test]
    fn every_prefix_needs_more_bytes() {
        let named = Header {
            name: Some("web.ns.svc.cluster.local".into()),
            ..header(80, Some(SessionProtocol::Http1))
        };
        let bytes = named.encode();
        for end in 0..bytes.len() {
            assert_eq!(
                Header::decode(&mut BytesMut::from(&bytes[..end])).expect("so far valid"),
                None
            );
        }
        assert_eq!(
            Header::decode(&mut BytesMut::from(&bytes[..])).expect("valid"),
            Some(named)
        );
    }

    #[test]
    fn rejects_violations_and_ignores_unknown_fields() {
        let framed = |len: u32, message: &[u8]| {
            let mut buf = BytesMut::from(PREFACE);
            buf.put_u32(len);
            buf.put_slice(message);
            Header::decode(&mut buf)
        };
        assert!(Header::decode(&mut BytesMut::from(&b"GET / HTTP/1.1"[..])).is_err());
        assert!(framed(64 * 1024 + 1, &[]).is_err(), "too long");
        assert!(framed(0, &[]).is_err(), "no port");
        assert!(framed(4, &[0x08, 0x80, 0x80, 0x04]).is_err(), "port 65536");
        assert!(framed(2, &[0x08, 0xff]).is_err(), "cut varint");
        let known = framed(6, &[0x08, 0x90, 0x3f, 0x22, 1, b'x'])
            .expect("valid")
            .expect("whole");
        assert_eq!(known, header(8080, None));
    }

    #[tokio::test]
    async fn read_returns_the_first_session_bytes() {
        let sent = header(8080, None);
        let mut wire = sent.encode().to_vec();
        wire.extend_from_slice(b"abc");
        let (read, rest) = Header::read(&mut &wire[..]).await.expect("valid");
        assert_eq!((read, &rest[..]), (sent, &b"abc"[..]));
        assert!(matches!(Header::read(&mut &wire[..10]).await, Err(Error::Header(_))));
    }
}
