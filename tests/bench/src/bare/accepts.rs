//! Accepted connections of a bare side. Several threads share them like the workers of the mesh: the first accepts for
//! all and hands the others their share.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc::{Receiver, Sender, channel},
};

/// Connections queued for another thread; a full queue blocks the first.
const HANDED_OVER: usize = 64;

/// Connections of one thread.
pub(crate) struct Accepts(From);

enum From {
    Listener {
        listener: TcpListener,
        others: Vec<Sender<std::net::TcpStream>>,
        accepted: usize,
    },
    First(Receiver<std::net::TcpStream>),
}

impl Accepts {
    /// Connections of a single thread.
    pub(crate) fn alone(listener: TcpListener) -> Self {
        Self::first(listener, Vec::new())
    }

    /// Connections of the first of several threads.
    pub(crate) fn first(listener: TcpListener, others: Vec<Sender<std::net::TcpStream>>) -> Self {
        Self(From::Listener {
            listener,
            others,
            accepted: 0,
        })
    }

    /// Connections of another thread, with the sender for the first.
    pub(crate) fn other() -> (Sender<std::net::TcpStream>, Self) {
        let (to, from) = channel(HANDED_OVER);
        (to, Self(From::First(from)))
    }

    /// Address of the listener; none for a thread without one.
    pub(crate) fn local_addr(&self) -> Result<SocketAddr> {
        match &self.0 {
            From::Listener { listener, .. } => Ok(listener.local_addr()?),
            From::First(_) => anyhow::bail!("only the first thread listens"),
        }
    }

    /// Next connection of this thread.
    pub(crate) async fn accept(&mut self) -> Result<TcpStream> {
        match &mut self.0 {
            From::Listener {
                listener,
                others,
                accepted,
            } => loop {
                let (socket, _) = listener.accept().await?;
                socket.set_nodelay(true)?;
                *accepted += 1;
                // All in turns: the threads are all alike.
                match others.get(*accepted % (others.len() + 1)) {
                    Some(other) => other.send(socket.into_std()?).await.context("a thread has ended")?,
                    None => return Ok(socket),
                }
            },
            From::First(first) => {
                let socket = first.recv().await.context("the first thread has ended")?;
                Ok(TcpStream::from_std(socket)?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn threads_get_connections_in_turns() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let (to, mut other) = Accepts::other();
        let mut first = Accepts::first(listener, vec![to]);
        let addr = first.local_addr().expect("it listens");
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(TcpStream::connect(addr).await.expect("it listens"));
        }
        let at = |socket: TcpStream| socket.peer_addr().expect("connected");
        let firsts = [first.accept().await, first.accept().await].map(|taken| at(taken.expect("a connection")));
        let others = at(other.accept().await.expect("a connection"));
        let addrs = clients.iter().map(|client| client.local_addr().expect("connected"));
        assert_eq!([firsts[0], others, firsts[1]][..], addrs.take(3).collect::<Vec<_>>());
        assert!(other.local_addr().is_err());
    }
}
