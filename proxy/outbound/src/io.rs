//! Connection to an endpoint, with mesh TLS or without.

use proxy_tls::MaybeTls;
use proxy_transport::{CloseObserver, ObservedTcp};
use tokio::net::TcpStream;

/// Connection to an endpoint.
pub(crate) type Stream = MaybeTls<ObservedTcp, TcpStream>;

/// Returns the socket of a connection.
pub(crate) fn socket(stream: &Stream) -> &TcpStream {
    match stream {
        MaybeTls::Plain(io) => io.get_ref(),
        MaybeTls::Tls(io) => io.get_ref(),
    }
}

/// Returns the observer that tells whether a failed request was read; a sidecar reports that itself.
pub(crate) fn close_observer(stream: &Stream) -> Option<CloseObserver> {
    match stream {
        MaybeTls::Plain(io) => Some(io.close_observer()),
        MaybeTls::Tls(_) => None,
    }
}
