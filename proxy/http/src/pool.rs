//! Connection pools: idle HTTP/1 connections to one endpoint, and its single HTTP/2 connection.
//!
//! A pool does not know how to connect: it hands out connections, and takes back those that can be reused.

mod slot;

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use proxy_metrics::Recorder;
use proxy_model::limits::{self, Limit};
use proxy_transport::timers;
use tokio::time::Instant;

use crate::{Body, Error, SendError, client::Http1, refusals::refused};
pub use slot::{Http2Slot, SlotConnection};

/// Idle HTTP/1 connections to one endpoint, most recently used first.
#[derive(Debug)]
pub struct Http1Pool {
    idle: RefCell<VecDeque<Idle>>,
    timeout: Duration,
    sweeping: Cell<bool>,
    /// Counts connections that were closed because the pool was full.
    metrics: Recorder,
}

#[derive(Debug)]
struct Idle {
    connection: Http1,
    since: Instant,
}

/// Connection that carries one request and returns to its pool when the response has ended.
#[derive(Debug)]
pub struct Lease {
    connection: Http1,
    /// None for a single-use connection.
    pool: Option<Rc<Http1Pool>>,
    reused: bool,
}

impl Http1Pool {
    /// Creates an empty pool that closes connections idle for `timeout`, and counts those that the limit turns away.
    pub fn new(timeout: Duration, metrics: Recorder) -> Rc<Self> {
        Rc::new(Self {
            idle: RefCell::default(),
            timeout,
            sweeping: Cell::new(false),
            metrics,
        })
    }

    /// Returns an idle connection that is usable as far as known.
    pub fn checkout(self: &Rc<Self>) -> Option<Lease> {
        let mut idle = self.idle.borrow_mut();
        let mut rest = idle.len();
        while rest > 0 {
            rest -= 1;
            let Idle { connection, since } = idle.pop_back()?;
            if connection.is_closed() || since.elapsed() >= self.timeout {
                continue;
            }
            if connection.is_ready() {
                return Some(Lease {
                    connection,
                    pool: Some(self.clone()),
                    reused: true,
                });
            }
            // Its last exchange is not quite over (the peer may still be reading the request): retry later.
            idle.push_front(Idle { connection, since });
        }
        None
    }

    /// Makes a fresh connection part of this pool.
    pub fn lease(self: &Rc<Self>, connection: Http1) -> Lease {
        Lease {
            connection,
            pool: Some(self.clone()),
            reused: false,
        }
    }

    /// Returns the number of idle connections.
    pub fn len(&self) -> usize {
        self.idle.borrow().len()
    }

    /// Returns true if no connection is idle.
    pub fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty()
    }

    fn put(self: &Rc<Self>, connection: Http1) {
        if connection.is_closed() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= limits::IDLE_HTTP1_PER_ENDPOINT.value {
            self.metrics.limit_refused(limits::IDLE_HTTP1_PER_ENDPOINT);
            return;
        }
        idle.push_back(Idle {
            connection,
            since: Instant::now(),
        });
        drop(idle);
        if !self.sweeping.replace(true) {
            tokio::task::spawn_local(sweep(Rc::downgrade(self)));
        }
    }

    /// Counts a connection that a limit forbids.
    pub fn refused(&self, limit: Limit) {
        refused(&self.metrics, limit, None);
    }

    /// Closes expired connections; returns the time until the next one expires, or none if the pool is empty.
    fn prune(&self) -> Option<Duration> {
        let now = Instant::now();
        let mut idle = self.idle.borrow_mut();
        idle.retain(|c| !c.connection.is_closed() && now.duration_since(c.since) < self.timeout);
        let oldest = idle.iter().map(|c| c.since).min()?;
        Some((oldest + self.timeout).duration_since(now))
    }
}

/// Closes idle connections as they expire; ends when the pool is empty or dropped.
async fn sweep(pool: Weak<Http1Pool>) {
    loop {
        let wait = {
            let Some(pool) = pool.upgrade() else { return };
            match pool.prune() {
                Some(wait) => wait,
                None => {
                    pool.sweeping.set(false);
                    return;
                }
            }
        };
        timers::sleep(wait.max(Duration::from_millis(10))).await;
    }
}

impl Lease {
    /// Wraps a single-use connection, which is closed after one request.
    pub fn once(connection: Http1) -> Self {
        Self {
            connection,
            pool: None,
            reused: false,
        }
    }

    /// Returns true if the connection has carried an earlier request.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// Sends the request, as [`Http1::send`] does; the connection returns to the pool when the response's body has
    /// ended.
    pub async fn send(mut self, request: &mut Request<Body>) -> Result<Response<Body>, SendError> {
        if self.reused {
            self.connection.watch();
        }
        let response = self.connection.send(request).await?;
        if response.status() == http::StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response.map(Body::Incoming));
        }
        Ok(response.map(|incoming| {
            Body::Pooled(PooledBody {
                incoming,
                lease: Some(self),
                ended: false,
            })
        }))
    }
}

/// Response body of a [`Lease`].
pub struct PooledBody {
    incoming: Incoming,
    lease: Option<Lease>,
    ended: bool,
}

impl PooledBody {
    fn give_back(&mut self) {
        if let Some(Lease {
            connection,
            pool: Some(pool),
            ..
        }) = self.lease.take()
        {
            pool.put(connection);
        }
    }
}

impl http_body::Body for PooledBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        if frame.is_none() {
            self.ended = true;
            self.give_back();
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Error::Hyper)))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for PooledBody {
    fn drop(&mut self) {
        // A server does not poll a body of known length to its end.
        if self.is_end_stream() {
            self.give_back();
        }
    }
}

impl fmt::Debug for PooledBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PooledBody")
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
