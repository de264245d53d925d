//! Connections to servers: time limit, socket options, and the mark that redirection lets through.

use std::{io, time::Duration};

use proxy_model::{ServerAddr, defaults};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use crate::{Error, SocketOptions};

/// Parameters of a connection attempt.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// Time limit of one attempt.
    pub timeout: Duration,
    /// Socket options of the new connection.
    pub options: SocketOptions,
    /// Socket mark (`SO_MARK`) that exempts the connection from redirection.
    pub mark: Option<u32>,
}

impl Default for Connect {
    fn default() -> Self {
        Self {
            timeout: defaults::OUTBOUND_CONNECT_TIMEOUT,
            options: SocketOptions::default(),
            mark: None,
        }
    }
}

impl Connect {
    /// Connects to a server.
    pub async fn connect(&self, ServerAddr(addr): ServerAddr) -> Result<TcpStream, Error> {
        let socket = self.socket(ServerAddr(addr))?;
        match crate::timers::timeout(self.timeout, socket.connect(addr)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(source)) => Err(Error::Connect { addr, source }),
            Err(_) => Err(Error::ConnectTimeout {
                addr,
                timeout: self.timeout,
            }),
        }
    }

    fn socket(&self, ServerAddr(addr): ServerAddr) -> Result<TcpSocket, Error> {
        let failed = |source: io::Error| Error::Connect { addr, source };
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP)).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        if let Some(mark) = self.mark {
            socket.set_mark(mark).map_err(|source| Error::Option {
                option: "SO_MARK",
                source,
            })?;
        }
        self.options.apply_to(&socket)?;
        Ok(TcpSocket::from_std_stream(socket.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn distinguishes_refusal_from_timeout() {
        let listener = crate::listen("127.0.0.1:0".parse().expect("valid")).expect("a free port");
        let addr = listener.local_addr().expect("bound");
        Connect::default().connect(ServerAddr(addr)).await.expect("listens");
        drop(listener);
        let refused = Connect::default().connect(ServerAddr(addr)).await;
        assert!(
            matches!(&refused, Err(Error::Connect { source, .. }) if source.kind() == io::ErrorKind::ConnectionRefused)
        );

        // A listener with a full backlog does not answer.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket
            .bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().expect("valid").into())
            .expect("a free port");
        socket.listen(0).expect("bound");
        let full = socket.local_addr().expect("bound").as_socket().expect("an IP address");
        let quick = Connect {
            timeout: Duration::from_millis(50),
            ..Connect::default()
        };
        let mut held = Vec::new();
        loop {
            match quick.connect(ServerAddr(full)).await {
                Ok(stream) => held.push(stream),
                Err(error) => break assert!(matches!(error, Error::ConnectTimeout { .. }), "{error}"),
            }
            assert!(held.len() < 16, "the backlog never fills");
        }
    }
}
