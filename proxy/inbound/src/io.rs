//! Client connection as later phases see it.

use proxy_http::Metered;
use proxy_tls::MaybeTls;
use proxy_transport::PrefixedIo;
use tokio::net::TcpStream;

/// Client connection after the TLS phase.
pub(crate) type ClientIo = MaybeTls<PrefixedIo<TcpStream>>;

/// Counted client connection with the bytes that detection has read.
pub(crate) type SessionIo = PrefixedIo<Metered<ClientIo>>;
