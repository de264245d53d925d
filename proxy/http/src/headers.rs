//! Headers exchanged between proxies, and constants for them.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Identity of the TLS client, for the application. Set by inbound.
pub const L5D_CLIENT_ID: HeaderName = HeaderName::from_static("l5d-client-id");
/// Marks HTTP/1 carried in HTTP/2.
pub const L5D_ORIG_PROTO: HeaderName = HeaderName::from_static("l5d-orig-proto");
/// Reason of a response that the proxy sent instead of the application.
pub const L5D_PROXY_ERROR: HeaderName = HeaderName::from_static("l5d-proxy-error");
/// `close` if the peer should close the connection.
pub const L5D_PROXY_CONNECTION: HeaderName = HeaderName::from_static("l5d-proxy-connection");
/// Name that outbound routed a request by, when a ServiceProfile applied.
pub const L5D_DST_CANONICAL: HeaderName = HeaderName::from_static("l5d-dst-canonical");
/// Server identity required by the client of outbound.
pub const L5D_REQUIRE_ID: HeaderName = HeaderName::from_static("l5d-require-id");
/// Ours: inbound reports that a request provably did not reach the application, so that outbound may send it elsewhere.
/// Only sent to clients with an identity; outbound strips it, and inbound strips it from the application's responses.
pub const MESH_NEVER_ARRIVED: HeaderName = HeaderName::from_static("mesh-never-arrived");
/// Ours: marks a copy of a mirrored request.
pub const MESH_MIRRORED: HeaderName = HeaderName::from_static("mesh-mirrored");
/// Non-standard `connection` for proxies.
pub const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// Hop-by-hop header of HTTP/1.0.
pub const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// gRPC status code.
pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// gRPC status message.
pub const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Value of [`MESH_NEVER_ARRIVED`] and [`MESH_MIRRORED`].
pub const TRUE: HeaderValue = HeaderValue::from_static("true");
/// `close`.
pub const CLOSE: HeaderValue = HeaderValue::from_static("close");
/// gRPC's content type.
pub const APPLICATION_GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// Set of the headers relevant to a proxy that a message has. One pass over the names is cheaper than a lookup for each
/// header that hardly any message has.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderFlags(u16);

impl HeaderFlags {
    /// Scans all header names.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        Self(headers.keys().fold(0, |seen, name| seen | bit(name.as_str())))
    }

    /// Returns true if the header is present. `header` must be one of the constants.
    pub fn has(self, header: Self) -> bool {
        self.0 & header.0 != 0
    }

    /// `connection` or one of its relatives.
    pub const HOP_BY_HOP: Self = Self(1);
    /// `upgrade`, which is hop-by-hop too.
    pub const UPGRADE: Self = Self(1 << 1);
    /// `transfer-encoding`.
    pub const TRANSFER_ENCODING: Self = Self(1 << 2);
    /// `cookie`.
    pub const COOKIE: Self = Self(1 << 3);
    /// [`L5D_PROXY_ERROR`].
    pub const L5D_PROXY_ERROR: Self = Self(1 << 4);
    /// [`L5D_PROXY_CONNECTION`].
    pub const L5D_PROXY_CONNECTION: Self = Self(1 << 5);
    /// [`MESH_NEVER_ARRIVED`].
    pub const MESH_NEVER_ARRIVED: Self = Self(1 << 6);
    /// [`GRPC_STATUS`].
    pub const GRPC_STATUS: Self = Self(1 << 7);
    /// [`L5D_REQUIRE_ID`].
    pub const L5D_REQUIRE_ID: Self = Self(1 << 8);
    /// `te`.
    pub const TE: Self = Self(1 << 9);
    /// `date`.
    pub const DATE: Self = Self(1 << 10);
    /// `content-length`.
    pub const CONTENT_LENGTH: Self = Self(1 << 11);
    /// Headers that HTTP/2 forbids or restricts.
    pub const NOT_IN_HTTP2: Self = Self(Self::HOP_BY_HOP.0 | Self::TRANSFER_ENCODING.0 | Self::TE.0);
}

fn bit(name: &str) -> u16 {
    let header = match name {
        "connection" | "keep-alive" | "proxy-connection" => HeaderFlags::HOP_BY_HOP,
        "upgrade" => HeaderFlags(HeaderFlags::HOP_BY_HOP.0 | HeaderFlags::UPGRADE.0),
        "transfer-encoding" => HeaderFlags::TRANSFER_ENCODING,
        "te" => HeaderFlags::TE,
        "date" => HeaderFlags::DATE,
        "content-length" => HeaderFlags::CONTENT_LENGTH,
        "cookie" => HeaderFlags::COOKIE,
        "l5d-proxy-error" => HeaderFlags::L5D_PROXY_ERROR,
        "l5d-proxy-connection" => HeaderFlags::L5D_PROXY_CONNECTION,
        "mesh-never-arrived" => HeaderFlags::MESH_NEVER_ARRIVED,
        "grpc-status" => HeaderFlags::GRPC_STATUS,
        "l5d-require-id" => HeaderFlags::L5D_REQUIRE_ID,
        _ => HeaderFlags::default(),
    };
    header.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_header_sets_its_own_flag() {
        use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, DATE, TE, TRANSFER_ENCODING, UPGRADE};
        let all = [
            (CONNECTION, HeaderFlags::HOP_BY_HOP),
            (KEEP_ALIVE, HeaderFlags::HOP_BY_HOP),
            (PROXY_CONNECTION, HeaderFlags::HOP_BY_HOP),
            (UPGRADE, HeaderFlags::UPGRADE),
            (TRANSFER_ENCODING, HeaderFlags::TRANSFER_ENCODING),
            (COOKIE, HeaderFlags::COOKIE),
            (TE, HeaderFlags::TE),
            (DATE, HeaderFlags::DATE),
            (CONTENT_LENGTH, HeaderFlags::CONTENT_LENGTH),
            (L5D_PROXY_ERROR, HeaderFlags::L5D_PROXY_ERROR),
            (L5D_PROXY_CONNECTION, HeaderFlags::L5D_PROXY_CONNECTION),
            (MESH_NEVER_ARRIVED, HeaderFlags::MESH_NEVER_ARRIVED),
            (GRPC_STATUS, HeaderFlags::GRPC_STATUS),
            (L5D_REQUIRE_ID, HeaderFlags::L5D_REQUIRE_ID),
        ];
        for (name, expected) in &all {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::HOST, CLOSE);
            assert_eq!(HeaderFlags::from_headers(&headers), HeaderFlags::default());
            headers.insert(name, CLOSE);
            for (_, header) in &all {
                let is_upgrade = *expected == HeaderFlags::UPGRADE && *header == HeaderFlags::HOP_BY_HOP;
                assert_eq!(
                    HeaderFlags::from_headers(&headers).has(*header),
                    header == expected || is_upgrade,
                    "{name}"
                );
            }
        }
    }
}
