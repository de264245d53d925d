//! Connections that are kept: idle HTTP/1 connections to one endpoint, and the one HTTP/2 connection to it.
//!
//! A pool knows nothing of how to connect: it hands out what is there, and takes back what can be used again.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    FutureExt as _,
    future::{LocalBoxFuture, Shared},
};
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use proxy_metrics::Recorder;
use proxy_model::limits;
use proxy_transport::timers;
use tokio::time::Instant;

use crate::{
    Body, Error, SendError,
    client::{Http1, Http2},
};

/// Time that an idle HTTP/1 connection is kept unless something else is configured; upstream's figure.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(3);

/// Idle HTTP/1 connections to one endpoint, the latest used first.
#[derive(Debug)]
pub struct Http1Pool {
    idle: RefCell<VecDeque<Idle>>,
    timeout: Duration,
    sweeping: Cell<bool>,
    /// Counts connections that were closed because the pool was full.
    recorder: Option<Recorder>,
}

#[derive(Debug)]
struct Idle {
    connection: Http1,
    since: Instant,
}

/// A connection that carries one request and goes back to its pool when the response has ended.
#[derive(Debug)]
pub struct Lease {
    connection: Http1,
    /// None for a connection that is used once.
    pool: Option<Rc<Http1Pool>>,
    reused: bool,
}

impl Http1Pool {
    /// An empty pool whose connections are closed when nobody used them for `timeout`.
    pub fn new(timeout: Duration) -> Rc<Self> {
        Self::make(timeout, None)
    }

    /// The same; what the limit refuses is counted.
    pub fn counted(timeout: Duration, recorder: Recorder) -> Rc<Self> {
        Self::make(timeout, Some(recorder))
    }

    fn make(timeout: Duration, recorder: Option<Recorder>) -> Rc<Self> {
        Rc::new(Self {
            idle: RefCell::default(),
            timeout,
            sweeping: Cell::new(false),
            recorder,
        })
    }

    /// A connection that is idle and usable as far as known.
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
            // Its last exchange is not quite over (the peer may still be reading the request): look again later.
            idle.push_front(Idle { connection, since });
        }
        None
    }

    /// Makes a fresh connection one of this pool's.
    pub fn lease(self: &Rc<Self>, connection: Http1) -> Lease {
        Lease {
            connection,
            pool: Some(self.clone()),
            reused: false,
        }
    }

    /// Idle connections now.
    pub fn len(&self) -> usize {
        self.idle.borrow().len()
    }

    /// Whether no connection is idle now.
    pub fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty()
    }

    fn put(self: &Rc<Self>, connection: Http1) {
        if connection.is_closed() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= limits::IDLE_HTTP1_PER_ENDPOINT.value {
            if let Some(recorder) = &self.recorder {
                recorder.limit_refused(limits::IDLE_HTTP1_PER_ENDPOINT);
            }
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

    /// Closes what was idle for too long; the time until the next is, or none when the pool is empty.
    fn prune(&self) -> Option<Duration> {
        let now = Instant::now();
        let mut idle = self.idle.borrow_mut();
        idle.retain(|c| !c.connection.is_closed() && now.duration_since(c.since) < self.timeout);
        let oldest = idle.iter().map(|c| c.since).min()?;
        Some((oldest + self.timeout).duration_since(now))
    }
}

/// Closes idle connections as their time comes; ends when the pool is empty or gone.
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
    /// A connection that is used for one request and then closed.
    pub fn once(connection: Http1) -> Self {
        Self {
            connection,
            pool: None,
            reused: false,
        }
    }

    /// Whether the connection carried a request before.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// Sends the request, as [`Http1::send`] does; the connection goes back to the pool by itself when the response's body has ended.
    pub async fn send(mut self, request: &mut Request<Body>) -> Result<Response<Body>, SendError> {
        if self.reused {
            self.connection.watch();
        }
        let response = self.connection.send(request).await?;
        if response.status() == http::StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response.map(Body::Incoming));
        }
        Ok(response.map(|incoming| {
            Body::Pooled(Pooled {
                incoming,
                lease: Some(self),
                ended: false,
            })
        }))
    }
}

/// The response body of a [`Lease`].
pub struct Pooled {
    incoming: Incoming,
    lease: Option<Lease>,
    ended: bool,
}

impl Pooled {
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

impl http_body::Body for Pooled {
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

impl Drop for Pooled {
    fn drop(&mut self) {
        // A server does not poll a body to its end when its length is known.
        if self.is_end_stream() {
            self.give_back();
        }
    }
}

impl fmt::Debug for Pooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pooled")
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// The one HTTP/2 connection to an endpoint. Requests that come while it is being made wait for the same connection.
pub struct Http2Pool<E: 'static> {
    state: RefCell<State<E>>,
}

type Connecting<E> = Shared<LocalBoxFuture<'static, Result<Http2, Rc<E>>>>;

enum State<E: 'static> {
    Idle,
    Connecting(Connecting<E>),
    Ready(Http2),
}

impl<E: 'static> Default for Http2Pool<E> {
    fn default() -> Self {
        Self {
            state: RefCell::new(State::Idle),
        }
    }
}

impl<E: 'static> Http2Pool<E> {
    /// The connection, if it is there and was not seen to end.
    pub fn ready(&self) -> Option<Http2> {
        match &*self.state.borrow() {
            State::Ready(connection) if !connection.is_closed() => Some(connection.clone()),
            _ => None,
        }
    }

    /// The connection; `connect` makes it if there is none. Everybody who waits gets the same result.
    pub async fn get<F>(&self, connect: impl FnOnce() -> F) -> Result<Http2, Rc<E>>
    where
        F: Future<Output = Result<Http2, E>> + 'static,
    {
        if let Some(connection) = self.ready() {
            return Ok(connection);
        }
        let connecting = self.connecting(connect);
        let result = connecting.clone().await;
        let mut state = self.state.borrow_mut();
        if matches!(&*state, State::Connecting(current) if current.ptr_eq(&connecting)) {
            *state = result
                .as_ref()
                .map_or(State::Idle, |connection| State::Ready(connection.clone()));
        }
        result
    }

    /// Forgets the connection, for example because the endpoint was taken out; requests under way go on.
    pub fn clear(&self) {
        *self.state.borrow_mut() = State::Idle;
    }

    fn connecting<F>(&self, connect: impl FnOnce() -> F) -> Connecting<E>
    where
        F: Future<Output = Result<Http2, E>> + 'static,
    {
        let mut state = self.state.borrow_mut();
        if let State::Connecting(connecting) = &*state {
            return connecting.clone();
        }
        let connecting = connect().map(|result| result.map_err(Rc::new)).boxed_local().shared();
        *state = State::Connecting(connecting.clone());
        connecting
    }
}

impl<E: 'static> fmt::Debug for Http2Pool<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &*self.state.borrow() {
            State::Idle => "Http2Pool::Idle",
            State::Connecting(_) => "Http2Pool::Connecting",
            State::Ready(_) => "Http2Pool::Ready",
        })
    }
}
