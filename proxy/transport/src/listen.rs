//! Listening sockets, options of accepted sockets, and the original destination of redirected connections.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use proxy_model::{OrigDstAddr, limits};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpStream;

use crate::Error;

/// Options of a TCP connection, accepted or initiated.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// Idle time before the system probes the peer.
    pub keepalive: Option<Duration>,
    /// Time that sent data may remain unacknowledged.
    pub user_timeout: Option<Duration>,
}

impl SocketOptions {
    /// Applies these options and `TCP_NODELAY` to a connection.
    pub fn apply(&self, stream: &TcpStream) -> Result<(), Error> {
        self.apply_to(&SockRef::from(stream))
    }

    pub(crate) fn apply_to(&self, socket: &Socket) -> Result<(), Error> {
        let named = |option: &'static str| move |source| Error::Option { option, source };
        socket.set_tcp_nodelay(true).map_err(named("TCP_NODELAY"))?;
        if let Some(time) = self.keepalive {
            let keepalive = TcpKeepalive::new().with_time(time).with_interval(time);
            socket.set_tcp_keepalive(&keepalive).map_err(named("SO_KEEPALIVE"))?;
        }
        if self.user_timeout.is_some() {
            socket
                .set_tcp_user_timeout(self.user_timeout)
                .map_err(named("TCP_USER_TIMEOUT"))?;
        }
        Ok(())
    }
}

/// Binds and listens. Returns a `std` socket, so that it can be bound before the runtime that accepts on it exists.
pub fn listen(addr: SocketAddr) -> Result<std::net::TcpListener, Error> {
    bind(addr).map_err(|source| Error::Listen { addr, source })
}

fn bind(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if let IpAddr::V6(ip) = addr.ip() {
        // `[::]` accepts IPv4 too; `[::1]` next to 127.0.0.1 must not.
        socket.set_only_v6(!ip.is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(limits::LISTEN_BACKLOG.value.into())?;
    Ok(socket.into())
}

/// Returns the address that the client dialed before redirection. IPv4-mapped IPv6 addresses are unwrapped.
pub fn original_dst(stream: &TcpStream) -> Result<OrigDstAddr, Error> {
    let socket = SockRef::from(stream);
    let peer = stream.peer_addr().map_err(Error::OriginalDst)?;
    let addr = if peer.ip().to_canonical().is_ipv4() {
        socket.original_dst_v4()
    } else {
        socket.original_dst_v6()
    };
    let addr = addr.map_err(Error::OriginalDst)?.as_socket();
    let addr = addr.ok_or_else(|| Error::OriginalDst(io::Error::other("not an IP address")))?;
    Ok(OrigDstAddr(SocketAddr::new(addr.ip().to_canonical(), addr.port())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn listen_error_names_the_address_and_direct_connections_have_no_original_destination() {
        let first = listen("127.0.0.1:0".parse().expect("valid")).expect("a free port");
        let addr = first.local_addr().expect("bound");
        let error = listen(addr).expect_err("taken");
        assert_eq!(error.to_string(), format!("cannot listen on {addr}"));
        let reason = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<io::Error>());
        assert_eq!(reason.map(io::Error::kind), Some(io::ErrorKind::AddrInUse));

        let client = TcpStream::connect(addr).await.expect("listens");
        SocketOptions {
            keepalive: Some(Duration::from_secs(10)),
            user_timeout: Some(Duration::from_secs(30)),
        }
        .apply(&client)
        .expect("ordinary options");
        let socket = SockRef::from(&client);
        assert!(socket.tcp_nodelay().expect("readable") && socket.keepalive().expect("readable"));
        assert_eq!(
            socket.tcp_user_timeout().expect("readable"),
            Some(Duration::from_secs(30))
        );
        assert!(matches!(original_dst(&client), Err(Error::OriginalDst(_))));
    }
}
