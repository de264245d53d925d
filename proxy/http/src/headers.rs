//! Names of the headers that mean something between proxies, made once.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Identity of the TLS client, for the application. Overwritten by inbound.
pub const L5D_CLIENT_ID: HeaderName = HeaderName::from_static("l5d-client-id");
/// Marks HTTP/1 that rides in HTTP/2.
pub const L5D_ORIG_PROTO: HeaderName = HeaderName::from_static("l5d-orig-proto");
/// Why the proxy answered instead of the application.
pub const L5D_PROXY_ERROR: HeaderName = HeaderName::from_static("l5d-proxy-error");
/// `close` when the peer should close the connection.
pub const L5D_PROXY_CONNECTION: HeaderName = HeaderName::from_static("l5d-proxy-connection");
/// Name that outbound routed a request by, when a ServiceProfile did.
pub const L5D_DST_CANONICAL: HeaderName = HeaderName::from_static("l5d-dst-canonical");
/// Identity that the client of outbound insists on.
pub const L5D_REQUIRE_ID: HeaderName = HeaderName::from_static("l5d-require-id");
/// Ours: the inbound proxy says that a request provably did not reach the application, so that the outbound proxy may
/// send it elsewhere. Only sent to clients with an identity; outbound strips it, inbound strips it from what the
/// application says.
pub const MESH_NEVER_ARRIVED: HeaderName = HeaderName::from_static("mesh-never-arrived");
/// Not standardised, but seen: a `connection` for proxies.
pub const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// Hop-by-hop.
pub const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// gRPC's status.
pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// gRPC's text.
pub const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The value of [`MESH_NEVER_ARRIVED`].
pub const TRUE: HeaderValue = HeaderValue::from_static("true");
/// `close`.
pub const CLOSE: HeaderValue = HeaderValue::from_static("close");
/// gRPC's content type.
pub const APPLICATION_GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// Which of the headers that mean something to a proxy a message has. One look at each name is cheaper than a lookup for
/// each header that nearly no message has.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(u16);

impl Seen {
    /// Looks at every name.
    pub fn of(headers: &HeaderMap) -> Self {
        Self(headers.keys().fold(0, |seen, name| seen | bit(name.as_str())))
    }

    /// Whether the header is there. Only for those that [`Seen`] has a constant for.
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
    /// What HTTP/2 forbids, or nearly.
    pub const NOT_IN_HTTP2: Self = Self(Self::HOP_BY_HOP.0 | Self::TRANSFER_ENCODING.0 | Self::TE.0);
}

fn bit(name: &str) -> u16 {
    let header = match name {
        "connection" | "keep-alive" | "proxy-connection" => Seen::HOP_BY_HOP,
        "upgrade" => Seen(Seen::HOP_BY_HOP.0 | Seen::UPGRADE.0),
        "transfer-encoding" => Seen::TRANSFER_ENCODING,
        "te" => Seen::TE,
        "date" => Seen::DATE,
        "content-length" => Seen::CONTENT_LENGTH,
        "cookie" => Seen::COOKIE,
        "l5d-proxy-error" => Seen::L5D_PROXY_ERROR,
        "l5d-proxy-connection" => Seen::L5D_PROXY_CONNECTION,
        "mesh-never-arrived" => Seen::MESH_NEVER_ARRIVED,
        "grpc-status" => Seen::GRPC_STATUS,
        "l5d-require-id" => Seen::L5D_REQUIRE_ID,
        _ => Seen::default(),
    };
    header.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_header_is_seen_as_itself() {
        use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, DATE, TE, TRANSFER_ENCODING, UPGRADE};
        let all = [
            (CONNECTION, Seen::HOP_BY_HOP),
            (KEEP_ALIVE, Seen::HOP_BY_HOP),
            (PROXY_CONNECTION, Seen::HOP_BY_HOP),
            (UPGRADE, Seen::UPGRADE),
            (TRANSFER_ENCODING, Seen::TRANSFER_ENCODING),
            (COOKIE, Seen::COOKIE),
            (TE, Seen::TE),
            (DATE, Seen::DATE),
            (CONTENT_LENGTH, Seen::CONTENT_LENGTH),
            (L5D_PROXY_ERROR, Seen::L5D_PROXY_ERROR),
            (L5D_PROXY_CONNECTION, Seen::L5D_PROXY_CONNECTION),
            (MESH_NEVER_ARRIVED, Seen::MESH_NEVER_ARRIVED),
            (GRPC_STATUS, Seen::GRPC_STATUS),
            (L5D_REQUIRE_ID, Seen::L5D_REQUIRE_ID),
        ];
        for (name, expected) in &all {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::HOST, CLOSE);
            assert_eq!(Seen::of(&headers), Seen::default());
            headers.insert(name, CLOSE);
            for (_, header) in &all {
                let is_upgrade = *expected == Seen::UPGRADE && *header == Seen::HOP_BY_HOP;
                assert_eq!(
                    Seen::of(&headers).has(*header),
                    header == expected || is_upgrade,
                    "{name}"
                );
            }
        }
    }
}
