//! HTTP/2 client on the h2 crate. A request goes from its own task directly into the connection's streams, and its
//! response returns the same way: hyper's client, which supports any number of threads, needs a queue, two channels and
//! a task for each request, a quarter of the outbound side's cost of a request.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::poll_fn,
    pin::Pin,
    rc::{Rc, Weak},
    sync::Once,
    task::{Context, Poll, Waker},
};

use futures_util::{FutureExt as _, future::LocalBoxFuture};
use h2::client::{Builder, Connection, SendRequest};
use http::{HeaderMap, Method, Request, Response, Version, header::CONTENT_LENGTH};
use http_body::Body as _;
use proxy_model::{Http2Params, limits};
use proxy_transport::{Corked, cork::corked, timers};

use crate::{
    Body, Error, SendError,
    budget::{HeldData, Holder},
    h1,
    headers::HeaderFlags,
    http2::{
        body_sender::{self, BodySender},
        keep_alive::{self, Pings},
        receive::ReceivedBody,
        uncork,
        waker::CoalescingWaker,
    },
    server::Io,
};

/// Bytes buffered for the socket by each stream; hyper's figure.
const SEND_BUFFER: usize = limits::HTTP2_CLIENT_SEND_BUFFER.value;
/// Concurrent streams until the peer announces its limit; hyper's figure.
const FIRST_STREAMS: usize = limits::HTTP2_FIRST_STREAMS.value;
/// Streams reset because of the peer's errors before the connection is closed; hyper's figure.
const LOCAL_ERROR_RESETS: usize = limits::HTTP2_ERROR_RESETS.value;

/// HTTP/2 connection: cheap to clone, any number of concurrent requests.
#[derive(Clone)]
pub struct Http2(Rc<ClientState>);

/// State shared by all clones. After the last is dropped, the connection ends with its last stream.
struct ClientState {
    sender: RefCell<SendRequest<HeldData>>,
    is_closed: Rc<Cell<bool>>,
    /// Held by every exchange in progress.
    active: Rc<()>,
    holder: Rc<Holder>,
}

/// Starts an HTTP/2 connection over `io`. A task of the current worker drives it and ends with it.
pub async fn http2<I: Io>(io: I, params: &Http2Params) -> Result<Http2, Error> {
    let io = Corked::new(io);
    let (sender, mut connection) = builder(params).handshake(io.clone()).await?;
    let waker = CoalescingWaker::new();
    let state = Rc::new(ClientState {
        sender: RefCell::new(sender),
        is_closed: Rc::new(Cell::new(false)),
        active: Rc::new(()),
        holder: Holder::new(waker.waker(), None),
    });
    let pings = params.keep_alive.as_ref().and_then(|keep_alive| {
        let pings = Pings {
            interval: keep_alive.interval?,
            timeout: keep_alive.timeout.unwrap_or(keep_alive::TIMEOUT),
        };
        let (always, state) = (keep_alive.while_idle, Rc::downgrade(&state));
        let is_wanted = move || always || state.upgrade().is_some_and(|state| state.is_active());
        Some(keep_alive::unanswered(pings, connection.ping_pong()?, is_wanted))
    });
    tokio::task::spawn_local(Driver::new(connection, io, &state, pings).run(waker));
    Ok(Http2(state))
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
        if flow.adaptive_flow_control {
            warn_of_adaptive_flow_control();
        }
    }
    if let Some(internals) = &params.internals {
        if internals.max_concurrent_reset_streams != 0 {
            builder.max_concurrent_reset_streams(internals.max_concurrent_reset_streams as usize);
        }
        // h2 panics on sizes that HTTP/2 does not allow.
        if (16_384..=16_777_215).contains(&internals.max_frame_size) {
            builder.max_frame_size(internals.max_frame_size);
        }
        if internals.max_send_buf_size != 0 {
            builder.max_send_buffer_size(internals.max_send_buf_size as usize);
        }
    }
    builder
}

/// Warns once per process: endpoints ask for it, and each has many connections.
#[cold]
fn warn_of_adaptive_flow_control() {
    static WARNED: Once = Once::new();
    WARNED.call_once(|| {
        tracing::warn!(
            "ignoring adaptive_flow_control of an endpoint: not supported, windows follow the configuration"
        );
    });
}

/// Drives a connection to its end.
struct Driver<I: Io> {
    connection: Connection<Corked<I>, HeldData>,
    io: Corked<I>,
    pings: Option<LocalBoxFuture<'static, ()>>,
    state: Weak<ClientState>,
    holder: Rc<Holder>,
    is_closed: CloseOnDrop,
}

impl<I: Io> Driver<I> {
    fn new(
        connection: Connection<Corked<I>, HeldData>,
        io: Corked<I>,
        state: &Rc<ClientState>,
        pings: Option<LocalBoxFuture<'static, ()>>,
    ) -> Self {
        Self {
            connection,
            io,
            pings,
            state: Rc::downgrade(state),
            holder: state.holder.clone(),
            is_closed: CloseOnDrop(state.is_closed.clone()),
        }
    }

    async fn run(mut self, mut waker: CoalescingWaker) {
        let ended = poll_fn(|cx| {
            let ended = waker.poll(cx, |cx| self.poll(cx));
            uncork(ended, cx, &self.io)
        });
        if let Err(error) = ended.await {
            tracing::debug!(%error, "HTTP/2 client connection failed");
        }
    }

    /// Marks the connection closed as soon as it accepts no more requests, which after a GOAWAY is long before its last
    /// stream ends.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        if let Some(pings) = &mut self.pings
            && pings.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Ok(()));
        }
        if self.holder.is_shed() {
            return Poll::Ready(Ok(()));
        }
        let ended = corked(|| Pin::new(&mut self.connection).poll(cx));
        let is_closed = &self.is_closed.0;
        if !is_closed.get() && self.state.upgrade().is_some_and(|state| state.refuses()) {
            is_closed.set(true);
        }
        ended
    }
}

/// Marks a connection closed, at the latest when its driver is dropped.
struct CloseOnDrop(Rc<Cell<bool>>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

impl ClientState {
    fn is_active(&self) -> bool {
        Rc::strong_count(&self.active) > 1
    }

    /// Returns true if the connection accepts no more requests.
    fn refuses(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        matches!(self.sender.borrow_mut().poll_ready(&mut cx), Poll::Ready(Err(_)))
    }
}

impl Http2 {
    /// Sends a request, moving it out of its place: it is large, and a reference to it is not. Its URI must be
    /// absolute.
    pub async fn send(&mut self, request: &mut Request<Body>) -> Result<Response<Body>, SendError> {
        let state = &self.0;
        if state.is_closed.get() {
            return Err(not_sent(Error::Closed));
        }
        // A separate handle: one that waits for a stream to open would block the others.
        let mut sender = state.sender.borrow().clone();
        if let Some(Err(error)) = poll_fn(|cx| sender.poll_ready(cx)).now_or_never() {
            return Err(not_sent(error.into()));
        }
        let body = std::mem::take(request.body_mut());
        let is_whole = body.is_end_stream();
        let head = head(request, &body);
        let (response, stream) = sender.send_request(head, is_whole).map_err(failed)?;
        let active = state.active.clone();
        let sending = if is_whole {
            drop(stream);
            None
        } else {
            body_sender::start(BodySender::new(body, stream, state.holder.clone()), active.clone())
        };
        wait_for_stream(&mut sender).await.map_err(|error| SendError {
            error,
            not_sent: false,
            not_read: false,
        })?;
        drop(sender);
        let response = response.await.map_err(failed)?;
        if let Some(sending) = sending {
            sending.detach();
        }
        Ok(response.map(|body| ReceivedBody::body(body, Some(active))))
    }

    /// Returns true if the connection has ended or accepts no more requests.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed.get()
    }
}

/// Waits until the stream of the request just sent has been opened. A server that allows no further streams is not
/// ready; its limit may be 0.
async fn wait_for_stream(sender: &mut SendRequest<HeldData>) -> Result<(), Error> {
    let mut opened = poll_fn(|cx| sender.poll_ready(cx));
    if let Some(opened) = (&mut opened).now_or_never() {
        // An error of the connection is the response's, too.
        return opened.or(Ok(()));
    }
    // Boxed: the future of every request would be larger.
    let opened = Box::pin(timers::timeout(limits::HTTP2_STREAM_WAIT.value, opened));
    opened.await.map(drop).map_err(|_| Error::NoStream)
}

fn failed(error: h2::Error) -> SendError {
    SendError {
        error: error.into(),
        not_sent: false,
        not_read: false,
    }
}

fn not_sent(error: Error) -> SendError {
    SendError {
        error,
        not_sent: true,
        not_read: false,
    }
}

/// Takes the parts that h2 sends out of a request.
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

/// Prepares headers for HTTP/2: removes connection headers, and adds a known length.
fn fit(method: &Method, headers: &mut HeaderMap, body: &Body) {
    let seen = HeaderFlags::from_headers(headers);
    if seen.has(HeaderFlags::NOT_IN_HTTP2) {
        h1::strip_for_http2(headers);
    }
    let has_meaning = !matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::CONNECT);
    if let Some(len) = body.size_hint().exact()
        && (len != 0 || has_meaning)
        && !seen.has(HeaderFlags::CONTENT_LENGTH)
    {
        headers.insert(CONTENT_LENGTH, len.into());
    }
}

impl fmt::Debug for Http2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2").field("is_closed", &self.is_closed()).finish()
    }
}
