//! HTTP/2 on the h2 crate itself. A request goes from its own task right into the connection's streams, and its answer
//! comes back the same way: hyper's client, which is made for any number of threads, takes a queue, two channels and a
//! task of its own for each request, that is a quarter of what a request costs the outbound side.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::poll_fn,
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::LocalBoxFuture};
use h2::client::{Builder, Connection, SendRequest};
use http::{HeaderMap, Method, Request, Response, Version, header::CONTENT_LENGTH};
use http_body::Body as _;
use proxy_model::{Http2Params, limits};
use proxy_transport::{Corked, cork::corked};

use super::adaptive::{self, Adaptive};
use crate::{
    Body, Error, SendError, h1,
    headers::Seen,
    http2::{
        gate::Gate,
        keep_alive::{self, Pings},
        pump::{self, Pump},
        receive::Received,
        uncork,
    },
    server::Io,
};

/// Bytes that wait in the connection for the socket, all streams together; hyper's figure.
const SEND_BUFFER: usize = limits::HTTP2_CLIENT_SEND_BUFFER.value;
/// Streams until the peer has said how many; hyper's figure.
const FIRST_STREAMS: usize = limits::HTTP2_FIRST_STREAMS.value;
/// Streams that we reset because of what the peer sent, until the connection is given up; hyper's figure.
const LOCAL_ERROR_RESETS: usize = limits::HTTP2_ERROR_RESETS.value;

/// An HTTP/2 connection: cheap to clone, any number of requests at a time.
#[derive(Clone)]
pub struct Http2(Kind);

#[derive(Clone)]
enum Kind {
    Direct(Rc<Shared>),
    Adaptive(Adaptive),
}

/// What all clones share. When the last goes, the connection ends once its streams have.
struct Shared {
    sender: RefCell<SendRequest<Bytes>>,
    is_closed: Rc<Cell<bool>>,
    /// Held by every exchange under way.
    active: Rc<()>,
}

/// Makes an HTTP/2 connection of `io`. A task of the current worker drives it and ends with it.
pub async fn http2<I: Io>(io: I, params: &Http2Params) -> Result<Http2, Error> {
    if params
        .flow_control
        .as_ref()
        .is_some_and(|flow| flow.adaptive_flow_control)
    {
        return Ok(Http2(Kind::Adaptive(adaptive::connect(Box::new(io), params).await?)));
    }
    let io = Corked::new(io);
    let (sender, mut connection) = builder(params).handshake(io.clone()).await?;
    let shared = Rc::new(Shared {
        sender: RefCell::new(sender),
        is_closed: Rc::new(Cell::new(false)),
        active: Rc::new(()),
    });
    let pings = params.keep_alive.as_ref().and_then(|keep_alive| {
        let pings = Pings {
            interval: keep_alive.interval?,
            timeout: keep_alive.timeout.unwrap_or(keep_alive::TIMEOUT),
        };
        let (always, shared) = (keep_alive.while_idle, Rc::downgrade(&shared));
        let is_wanted = move || always || shared.upgrade().is_some_and(|shared| shared.is_active());
        Some(keep_alive::unanswered(pings, connection.ping_pong()?, is_wanted))
    });
    tokio::task::spawn_local(Driver::new((connection, io), &shared, pings).run());
    Ok(Http2(Kind::Direct(shared)))
}

fn builder(params: &Http2Params) -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(limits::HTTP2_STREAM_WINDOW.value)
        .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW.value)
        .max_header_list_size(limits::HEADER_LIST_BYTES.value)
        .max_frame_size(16_384)
        .max_send_buffer_size(SEND_BUFFER)
        .initial_max_send_streams(FIRST_STREAMS)
        .max_local_error_reset_streams(Some(LOCAL_ERROR_RESETS))
        .enable_push(false);
    if let Some(flow) = &params.flow_control {
        if flow.initial_stream_window_size != 0 {
            builder.initial_window_size(flow.initial_stream_window_size);
        }
        if flow.initial_connection_window_size != 0 {
            builder.initial_connection_window_size(flow.initial_connection_window_size);
        }
    }
    if let Some(internals) = &params.internals {
        if internals.max_concurrent_reset_streams != 0 {
            builder.max_concurrent_reset_streams(internals.max_concurrent_reset_streams as usize);
        }
        // h2 panics on a size outside of what HTTP/2 allows.
        if (16_384..=16_777_215).contains(&internals.max_frame_size) {
            builder.max_frame_size(internals.max_frame_size);
        }
        if internals.max_send_buf_size != 0 {
            builder.max_send_buffer_size(internals.max_send_buf_size as usize);
        }
    }
    builder
}

/// Drives the connection to its end.
struct Driver<I: Io> {
    connection: Connection<Corked<I>, Bytes>,
    io: Corked<I>,
    pings: Option<LocalBoxFuture<'static, ()>>,
    shared: Weak<Shared>,
    is_closed: Closes,
}

impl<I: Io> Driver<I> {
    fn new(
        (connection, io): (Connection<Corked<I>, Bytes>, Corked<I>),
        shared: &Rc<Shared>,
        pings: Option<LocalBoxFuture<'static, ()>>,
    ) -> Self {
        Self {
            connection,
            io,
            pings,
            shared: Rc::downgrade(shared),
            is_closed: Closes(shared.is_closed.clone()),
        }
    }

    async fn run(mut self) {
        let mut gate = Gate::new();
        let ended = poll_fn(|cx| {
            let ended = gate.poll(cx, |cx| self.poll(cx));
            uncork(ended, cx, &self.io)
        });
        if let Err(error) = ended.await {
            tracing::debug!(%error, "an HTTP/2 client connection failed");
        }
    }

    /// Says that it is closed as soon as it takes no more requests, which after a GOAWAY is long before its last stream
    /// ends.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        if let Some(pings) = &mut self.pings
            && pings.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Ok(()));
        }
        let ended = corked(|| Pin::new(&mut self.connection).poll(cx));
        let is_closed = &self.is_closed.0;
        if !is_closed.get() && self.shared.upgrade().is_some_and(|shared| shared.refuses()) {
            is_closed.set(true);
        }
        ended
    }
}

/// Says that a connection is closed, at the latest when its driver is dropped.
struct Closes(Rc<Cell<bool>>);

impl Drop for Closes {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

impl Shared {
    fn is_active(&self) -> bool {
        Rc::strong_count(&self.active) > 1
    }

    /// Whether the connection takes no more requests.
    fn refuses(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        matches!(self.sender.borrow_mut().poll_ready(&mut cx), Poll::Ready(Err(_)))
    }
}

impl Http2 {
    /// Sends a request, and leaves nothing of it where it was: it is large, and a reference to it is not. Its URI must be
    /// absolute.
    pub async fn send(&mut self, request: &mut Request<Body>) -> Result<Response<Body>, SendError> {
        match &mut self.0 {
            Kind::Direct(shared) => send(shared, request).await,
            Kind::Adaptive(sender) => adaptive::send(sender, request).await,
        }
    }

    /// Whether the connection has ended, or takes no more requests.
    pub fn is_closed(&self) -> bool {
        match &self.0 {
            Kind::Direct(shared) => shared.is_closed.get(),
            Kind::Adaptive(sender) => sender.is_closed(),
        }
    }
}

async fn send(shared: &Rc<Shared>, request: &mut Request<Body>) -> Result<Response<Body>, SendError> {
    if shared.is_closed.get() {
        return Err(untaken(Error::Closed));
    }
    // A handle of its own: one that waits for a stream to open would make the others wait for it too.
    let mut sender = shared.sender.borrow().clone();
    if let Some(Err(error)) = poll_fn(|cx| sender.poll_ready(cx)).now_or_never() {
        return Err(untaken(error.into()));
    }
    let body = std::mem::take(request.body_mut());
    let is_whole = body.is_end_stream();
    let head = head(request, &body);
    let (response, stream) = sender.send_request(head, is_whole).map_err(failed)?;
    drop(sender);
    let active = shared.active.clone();
    let pumping = if is_whole {
        drop(stream);
        None
    } else {
        pump::start(Pump::new(body, stream), active.clone())
    };
    let response = response.await.map_err(failed)?;
    if let Some(pumping) = pumping {
        pumping.go_on();
    }
    Ok(response.map(|body| Received::body(body, Some(active))))
}

fn failed(error: h2::Error) -> SendError {
    SendError {
        error: error.into(),
        untaken: false,
        unread: false,
    }
}

fn untaken(error: Error) -> SendError {
    SendError {
        error,
        untaken: true,
        unread: false,
    }
}

/// Takes what h2 is to send out of a request.
fn head(request: &mut Request<Body>, body: &Body) -> Request<()> {
    let mut head = Request::new(());
    *head.method_mut() = std::mem::take(request.method_mut());
    *head.uri_mut() = std::mem::take(request.uri_mut());
    *head.version_mut() = Version::HTTP_2;
    let mut headers = std::mem::take(request.headers_mut());
    fit(head.method(), &mut headers, body);
    *head.headers_mut() = headers;
    head
}

/// Makes headers fit for HTTP/2: nothing of a connection, and the length that is known.
fn fit(method: &Method, headers: &mut HeaderMap, body: &Body) {
    let seen = Seen::of(headers);
    if seen.has(Seen::NOT_IN_HTTP2) {
        h1::strip_for_http2(headers);
    }
    let has_meaning = !matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::CONNECT);
    if let Some(len) = body.size_hint().exact()
        && (len != 0 || has_meaning)
        && !seen.has(Seen::CONTENT_LENGTH)
    {
        headers.insert(CONTENT_LENGTH, len.into());
    }
}

impl fmt::Debug for Http2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2").field("is_closed", &self.is_closed()).finish()
    }
}
