//! Raw clients, one file per protocol: bytes of HTTP/1, frames of HTTP/2, records of TLS.

pub mod http1;
pub mod http2;
pub mod records;
pub mod tls;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout, timeout_at},
};

/// Time for a connection to be established.
const CONNECT: Duration = Duration::from_secs(3);

/// Stream of any kind.
pub trait Io: AsyncRead + AsyncWrite + Unpin {}

impl<I: AsyncRead + AsyncWrite + Unpin> Io for I {}

/// Origin of a connection: the client's address, and the mark of clients outside the pod.
#[derive(Copy, Clone, Debug)]
pub struct From {
    /// Own address.
    pub address: Ipv4Addr,
    /// Mark of the socket.
    pub mark: Option<u32>,
}

/// Connects.
pub async fn connect(to: SocketAddr, from: From) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    // The port is chosen when connecting, so that the range serves each target anew.
    setsockopt(&socket, IpBindAddressNoPort, &true)?;
    socket.bind((from.address, 0).into())?;
    if let Some(mark) = from.mark {
        SockRef::from(&socket).set_mark(mark)?;
    }
    let stream = timeout(CONNECT, socket.connect(to)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Connections after a server has had its time.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    /// Connections that were open at first.
    pub opened: usize,
    /// Closed by the server.
    pub closed: usize,
    /// First answer, cut.
    pub answer: Option<String>,
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} closed", self.closed, self.opened)?;
        match &self.answer {
            Some(answer) => write!(f, ", {answer}"),
            None => Ok(()),
        }
    }
}

/// Reads from all connections until `wait` is over; those that ended are closed.
pub async fn ended<I: Io>(streams: &mut [I], wait: Duration) -> Ended {
    let deadline = Instant::now() + wait;
    let mut ended = Ended {
        opened: streams.len(),
        ..Ended::default()
    };
    for stream in streams {
        let mut read = Vec::new();
        let is_closed = timeout_at(deadline, async {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                read.extend_from_slice(&bytes[..count.min(64)]);
            }
        });
        ended.closed += usize::from(is_closed.await.is_ok());
        if !read.is_empty() && ended.answer.is_none() {
            ended.answer = Some(printable(&read));
        }
    }
    ended
}

/// First line of an answer, or its length.
pub fn printable(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    match std::str::from_utf8(line) {
        Ok(text) if text.starts_with("HTTP/") => text.to_owned(),
        _ => format!("{} bytes", bytes.len()),
    }
}
