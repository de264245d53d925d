//! A worker: one thread, one runtime, and the connections assigned to it. No part of a connection ever leaves it.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use proxy_metrics::Metrics;
use proxy_model::limits;
use proxy_tls::Tls;
use proxy_transport::timers;
use tokio::{
    net::TcpStream,
    runtime::{Handle, LocalOptions},
    sync::mpsc,
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    accept::{Accepted, Acceptor, ConnectionGuard, Connections, Direction, Listener},
    memory,
};

/// A connection on its way to another worker.
#[derive(Debug)]
struct Handover {
    accepted: Accepted<std::net::TcpStream>,
    counted: ConnectionGuard,
}

/// Another worker, as seen by the one that accepts.
#[derive(Debug)]
struct Peer {
    load: Arc<AtomicUsize>,
    connections: mpsc::Sender<Handover>,
}

/// One direction of the whole process.
#[derive(Clone, Debug)]
pub(crate) struct Side {
    pub(crate) connections: Connections,
    /// Cancelled: no new connections.
    pub(crate) close: CancellationToken,
    /// Cancelled: open connections end after their requests.
    pub(crate) drain: CancellationToken,
}

impl Side {
    pub(crate) fn new() -> Self {
        Self {
            connections: Connections::new(limits::CONNECTIONS.value),
            close: CancellationToken::new(),
            drain: CancellationToken::new(),
        }
    }
}

/// State that all workers share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) inbound: Side,
    pub(crate) outbound: Side,
    pub(crate) tls: Tls,
    pub(crate) metrics: Metrics,
    /// Cancelled: end at once.
    pub(crate) end: CancellationToken,
}

/// A worker that is not running yet. Made on the control thread, run on its own.
#[derive(Debug)]
pub(crate) struct Worker {
    shared: Shared,
    inbound: proxy_inbound::Deps,
    outbound: proxy_outbound::Deps,
    load: Arc<AtomicUsize>,
    handed: mpsc::Receiver<Handover>,
    /// The first worker accepts, for all; when it has closed a direction, that one drains.
    accepts: bool,
    peers: Vec<Peer>,
    listeners: Vec<(std::net::TcpListener, Direction, proxy_transport::SocketOptions)>,
    /// Share of the process's budget of buffered bytes.
    buffered_bytes: usize,
}

/// Makes as many workers as there are pairs; the first gets the listening sockets.
pub(crate) fn workers(
    shared: &Shared,
    deps: Vec<(proxy_inbound::Deps, proxy_outbound::Deps)>,
    listeners: Vec<(std::net::TcpListener, Direction, proxy_transport::SocketOptions)>,
) -> Vec<Worker> {
    let mut all = Vec::new();
    let buffered_bytes = memory::buffered_bytes(deps.len());
    let mut workers: Vec<_> = deps
        .into_iter()
        .map(|(inbound, outbound)| {
            let (connections, handed) = mpsc::channel(limits::HANDED_OVER.value);
            let load = Arc::new(AtomicUsize::new(0));
            all.push(Peer {
                load: Arc::clone(&load),
                connections,
            });
            let (shared, accepts, peers, listeners) = (shared.clone(), false, Vec::new(), Vec::new());
            Worker {
                shared,
                inbound,
                outbound,
                load,
                handed,
                accepts,
                peers,
                listeners,
                buffered_bytes,
            }
        })
        .collect();
    if let Some(first) = workers.first_mut() {
        first.accepts = true;
        first.peers = all;
        first.listeners = listeners;
    }
    workers
}

impl Worker {
    /// Runs on the calling thread until the end; `control` keeps its timers.
    pub(crate) fn run(self, control: Handle) -> std::io::Result<()> {
        timers::keep_in(control);
        proxy_http::budget::set(self.buffered_bytes, self.shared.metrics.recorder());
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime
            .enable_all()
            .build_local(LocalOptions::default())?
            .block_on(self.serve())
    }

    async fn serve(mut self) -> std::io::Result<()> {
        let listeners = std::mem::take(&mut self.listeners)
            .into_iter()
            .map(|(socket, direction, options)| {
                Ok(Listener {
                    socket: tokio::net::TcpListener::from_std(socket)?,
                    direction,
                    options,
                })
            });
        let mut acceptor = Acceptor::new(listeners.collect::<std::io::Result<_>>()?);
        let Shared {
            inbound,
            outbound,
            tls,
            metrics,
            end,
        } = self.shared.clone();
        let mut serving = RunningWorker {
            inbound: proxy_inbound::Worker::new(self.inbound),
            outbound: proxy_outbound::Worker::new(self.outbound),
            shared: self.shared,
            tasks: JoinSet::new(),
            load: self.load,
            peers: self.peers,
        };
        // Connections wait in the backlog until there is a certificate.
        tokio::select! {
            () = tls.certified() => {}
            () = inbound.close.cancelled() => {}
            () = end.cancelled() => return Ok(()),
        }
        let (mut inbound_open, mut outbound_open) = (self.accepts, self.accepts);
        loop {
            tokio::select! {
                accepted = acceptor.accept() => serving.place(accepted),
                Some(handed) = self.handed.recv() => serving.take(handed),
                Some(ended) = serving.tasks.join_next() => count_panic(&metrics, ended),
                () = inbound.close.cancelled(), if inbound_open => {
                    inbound_open = false;
                    acceptor.close(Direction::Inbound).into_iter().for_each(|last| serving.place(last));
                    inbound.drain.cancel();
                }
                () = outbound.close.cancelled(), if outbound_open => {
                    outbound_open = false;
                    acceptor.close(Direction::Outbound).into_iter().for_each(|last| serving.place(last));
                    outbound.drain.cancel();
                }
                () = end.cancelled() => return Ok(()),
            }
        }
    }
}

/// State of a running worker.
struct RunningWorker {
    inbound: Rc<proxy_inbound::Worker>,
    outbound: Rc<proxy_outbound::Worker>,
    shared: Shared,
    tasks: JoinSet<()>,
    load: Arc<AtomicUsize>,
    peers: Vec<Peer>,
}

impl RunningWorker {
    fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Inbound => &self.shared.inbound,
            Direction::Outbound => &self.shared.outbound,
        }
    }

    /// Assigns a new connection to the least-loaded worker.
    fn place(&mut self, accepted: Accepted) {
        let Some(counted) = self.side(accepted.direction).connections.admit() else {
            self.shared.metrics.limit_refused(limits::CONNECTIONS);
            return;
        };
        let least = self.peers.iter().min_by_key(|peer| peer.load.load(Relaxed));
        match least {
            Some(peer) if !Arc::ptr_eq(&peer.load, &self.load) => {
                let Ok(accepted) = accepted.try_map(TcpStream::into_std) else {
                    return;
                };
                if peer.connections.try_send(Handover { accepted, counted }).is_err() {
                    self.shared.metrics.limit_refused(limits::HANDED_OVER);
                }
            }
            _ => self.spawn(accepted, counted),
        }
    }

    /// Takes over a connection from the accepting worker.
    fn take(&mut self, handed: Handover) {
        let Handover { accepted, counted } = handed;
        let client = accepted.client;
        match accepted.try_map(TcpStream::from_std) {
            Ok(accepted) => self.spawn(accepted, counted),
            Err(error) => tracing::warn!(%client, %error, "failed to hand a connection to another worker"),
        }
    }

    fn spawn(&mut self, accepted: Accepted, counted: ConnectionGuard) {
        let Accepted {
            socket,
            direction,
            orig_dst,
            client,
        } = accepted;
        let drain = self.side(direction).drain.clone();
        let load = LoadGuard::new(&self.load);
        match direction {
            Direction::Inbound => {
                let connection = Rc::clone(&self.inbound).serve(socket, orig_dst, client, drain);
                self.tasks.spawn_local(async move {
                    connection.await;
                    drop((counted, load));
                });
            }
            Direction::Outbound => {
                let connection = Rc::clone(&self.outbound).serve(socket, orig_dst, client, drain);
                self.tasks.spawn_local(async move {
                    connection.await;
                    drop((counted, load));
                });
            }
        }
    }
}

/// One connection of a worker's load.
struct LoadGuard(Arc<AtomicUsize>);

impl LoadGuard {
    fn new(load: &Arc<AtomicUsize>) -> Self {
        load.fetch_add(1, Relaxed);
        Self(Arc::clone(load))
    }
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Runs a connection; a panic ends it, never the process.
fn count_panic(metrics: &Metrics, ended: Result<(), JoinError>) {
    if ended.is_err_and(|error| error.is_panic()) {
        metrics.panicked();
        tracing::error!("a connection ended by a panic");
    }
}
