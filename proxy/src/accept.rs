//! Listening sockets, and counts of the connections from them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use proxy_model::{ClientAddr, OrigDstAddr};
use proxy_transport::{SocketOptions, original_dst, timers};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
};

/// Pause after a failed accept: the system is out of files or memory, and an immediate retry would fail, too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Direction of a connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// To the application.
    Inbound,
    /// From the application.
    Outbound,
}

/// Connections of one direction, all workers together.
#[derive(Clone, Debug)]
pub(crate) struct Connections(Arc<Count>);

#[derive(Debug)]
struct Count {
    live: AtomicUsize,
    limit: usize,
    none: Notify,
}

/// A connection that is counted while this lives.
#[derive(Debug)]
pub(crate) struct ConnectionGuard(Arc<Count>);

impl Connections {
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Count {
            live: AtomicUsize::new(0),
            limit,
            none: Notify::new(),
        }))
    }

    /// Counts a connection; none at the limit.
    pub(crate) fn admit(&self) -> Option<ConnectionGuard> {
        let before = self.0.live.fetch_add(1, Relaxed);
        let counted = ConnectionGuard(Arc::clone(&self.0));
        (before < self.0.limit).then_some(counted)
    }

    pub(crate) fn live(&self) -> usize {
        self.0.live.load(Relaxed)
    }

    /// Waits until all connections have ended.
    pub(crate) async fn drained(&self) {
        loop {
            let none = self.0.none.notified();
            if self.live() == 0 {
                return;
            }
            none.await;
        }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        if self.0.live.fetch_sub(1, Relaxed) == 1 {
            self.0.none.notify_waiters();
        }
    }
}

/// A connection whose original destination is known.
#[derive(Debug)]
pub(crate) struct Accepted<S = TcpStream> {
    pub(crate) socket: S,
    pub(crate) direction: Direction,
    pub(crate) orig_dst: OrigDstAddr,
    pub(crate) client: ClientAddr,
}

impl<S> Accepted<S> {
    /// The same connection with its socket converted, to leave a runtime or to enter one.
    pub(crate) fn try_map<T>(self, convert: impl FnOnce(S) -> std::io::Result<T>) -> std::io::Result<Accepted<T>> {
        let Self {
            socket,
            direction,
            orig_dst,
            client,
        } = self;
        Ok(Accepted {
            socket: convert(socket)?,
            direction,
            orig_dst,
            client,
        })
    }
}

/// A listening socket of the proxy.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) direction: Direction,
    pub(crate) options: SocketOptions,
}

type AcceptResult = std::io::Result<(TcpStream, SocketAddr)>;

/// Accepts connections from several sockets.
#[derive(Debug, Default)]
pub(crate) struct Acceptor {
    listeners: Vec<Listener>,
}

impl Acceptor {
    pub(crate) fn new(listeners: Vec<Listener>) -> Self {
        Self { listeners }
    }

    /// The next connection. Cancel safe.
    pub(crate) async fn accept(&mut self) -> Accepted {
        loop {
            let (result, direction, options) = std::future::poll_fn(|cx| self.poll(cx)).await;
            match result {
                Ok((socket, client)) => {
                    if let Some(accepted) = redirected(socket, client, (direction, options)) {
                        return accepted;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, ?direction, "cannot accept a connection");
                    timers::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(AcceptResult, Direction, SocketOptions)> {
        for listener in &self.listeners {
            if let Poll::Ready(result) = listener.socket.poll_accept(cx) {
                return Poll::Ready((result, listener.direction, listener.options));
            }
        }
        Poll::Pending
    }

    /// Closes the sockets of one direction. Connections in the backlog are accepted first: closing would reset them,
    /// although a client may have sent a request.
    pub(crate) fn close(&mut self, direction: Direction) -> Vec<Accepted> {
        let mut last = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        for listener in self
            .listeners
            .extract_if(.., |listener| listener.direction == direction)
        {
            while let Poll::Ready(Ok((socket, client))) = listener.socket.poll_accept(&mut cx) {
                last.extend(redirected(socket, client, (direction, listener.options)));
            }
        }
        last
    }
}

fn redirected(
    socket: TcpStream,
    client: SocketAddr,
    (direction, options): (Direction, SocketOptions),
) -> Option<Accepted> {
    let set = options.apply(&socket).and_then(|()| original_dst(&socket));
    match set {
        Ok(orig_dst) => {
            let client = SocketAddr::new(client.ip().to_canonical(), client.port());
            Some(Accepted {
                socket,
                direction,
                orig_dst,
                client: ClientAddr(client),
            })
        }
        Err(error) => {
            tracing::debug!(%client, ?direction, %error, "dropped a connection");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_are_counted_limited_and_waited_for() {
        let connections = Connections::new(2);
        connections.drained().await;
        let first = connections.admit().expect("room");
        let second = connections.admit().expect("room");
        assert!(connections.admit().is_none());
        assert_eq!(connections.live(), 2, "the refused one does not count");
        let wait = tokio::spawn({
            let connections = connections.clone();
            async move { connections.drained().await }
        });
        drop(first);
        tokio::task::yield_now().await;
        assert!(!wait.is_finished());
        drop(second);
        wait.await.expect("notified");
    }

    #[tokio::test]
    async fn a_connection_that_was_not_redirected_is_dropped() {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = socket.local_addr().expect("bound");
        let listener = Listener {
            socket,
            direction: Direction::Inbound,
            options: SocketOptions::default(),
        };
        let mut acceptor = Acceptor::new(vec![listener]);
        let client = TcpStream::connect(addr).await.expect("listens");
        assert!(acceptor.close(Direction::Outbound).is_empty());
        assert!(acceptor.close(Direction::Inbound).is_empty(), "taken and dropped");
        let mut byte = [0; 1];
        client.readable().await.expect("closed");
        assert!(matches!(client.try_read(&mut byte), Ok(0) | Err(_)));
        assert!(TcpStream::connect(addr).await.is_err(), "the socket is closed");
    }
}
