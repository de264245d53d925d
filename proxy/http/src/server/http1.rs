//! HTTP/1 server on hyper, with limits of its own on heads and silence: hyper's timer would cost each request an
//! allocation, and would count the time that a connection is idle.

use std::{
    cell::Cell,
    future::poll_fn,
    io::{self, IoSlice},
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::TryFutureExt as _;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::{body::Incoming, server::conn::http1 as h1, service::service_fn};
use hyper_util::rt::TokioIo;
use proxy_model::{
    Reason,
    limits::{self, Limit},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    Io, Serving,
    events::{Event, Events},
};
use crate::{
    Body, Error,
    bounded_reads::{BlockedBytes, BoundedReads},
    budget::{self, Account},
    headers::L5D_PROXY_ERROR,
    refusals::refused,
};

/// Beginning of hyper's answer to a head that is too large.
const TOO_LARGE: &[u8] = b"HTTP/1.1 431 ";

/// Serves HTTP/1 until the client, a limit or a drain ends it. Supports upgrades and half-closed clients.
pub async fn http1<I, S, F, B, E>(io: I, service: S, serving: Serving<'_>) -> Result<(), Error>
where
    I: Io,
    S: Fn(Request<Body>) -> F,
    F: Future<Output = Result<Response<B>, E>>,
    B: HttpBody<Data = Bytes, Error = Error> + Unpin + 'static,
    E: Into<Error>,
{
    let cancelled = pin!(serving.drain.cancelled());
    let mut events = Events::new(cancelled);
    let io = BoundedReads::new(io);
    let state = Rc::new(State::new(io.blocked(), &serving));
    let service = service_fn(|request: Request<Incoming>| {
        let exchange = state.begin();
        let request = request.map(|body| {
            if body.is_end_stream() {
                Body::Empty
            } else {
                Body::Served(ExchangeBody::request(body, Exchange::new(&state)))
            }
        });
        service(request)
            .map_ok(|response| response.map(|body| ExchangeBody::response(body, exchange)))
            .map_err(Into::<Error>::into)
    });
    let io = WatchedIo {
        io,
        seen: state.seen.clone(),
    };
    let connection = h1::Builder::new()
        .half_close(true)
        .max_header_size(limits::HTTP1_HEAD_BYTES.value)
        .max_buf_size(limits::HTTP1_BUFFER_BYTES.value)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let mut times = Times::default();
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(state.judge(ended, &serving));
            }
            if state.is_shed(&events) {
                return Poll::Ready(Ok(()));
            }
            if state.may_resume() {
                continue;
            }
            times.update(&state, &mut events);
            match events.poll(cx) {
                None => return Poll::Pending,
                Some(Event::Drain) => connection.as_mut().graceful_shutdown(),
                Some(Event::Time) => {
                    let Some(limit) = times.passed(&state) else { continue };
                    refused(serving.metrics, limit, Some(serving.client));
                    if state.seen.phase() == Phase::Head {
                        state.seen.set(Phase::Refused);
                    } else {
                        connection.as_mut().graceful_shutdown();
                    }
                }
            }
        }
    })
    .await
}

/// Phase of a connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// No byte of a request has come.
    Idle,
    /// A part of a head has come.
    Head,
    /// From the end of a request's head to the end of the response, and of the request if that is later.
    Exchange,
    /// The head took too long; the connection ends after an answer.
    Refused,
    /// The connection has ended, or has been upgraded.
    Over,
}

impl Phase {
    const ALL: [Self; 5] = [Self::Idle, Self::Head, Self::Exchange, Self::Refused, Self::Over];
}

/// State that the I/O sees and changes. An upgraded connection's I/O must be able to move between threads, hence the
/// atomics; all are used by one thread at a time.
#[derive(Debug)]
struct IoState {
    phase: AtomicU8,
    /// Bytes of the head in progress.
    head: AtomicUsize,
    informational_headers: bool,
}

impl IoState {
    fn phase(&self) -> Phase {
        Phase::ALL[usize::from(self.phase.load(Relaxed))]
    }

    fn set(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
    }

    fn received(&self, bytes: usize) {
        if matches!(self.phase(), Phase::Idle | Phase::Head) && bytes > 0 {
            self.set(Phase::Head);
            self.head.store(self.head.load(Relaxed) + bytes, Relaxed);
        }
    }

    /// Bytes of a head that is not whole.
    fn partial_head(&self) -> usize {
        match self.phase() {
            Phase::Head => self.head.load(Relaxed),
            _ => 0,
        }
    }
}

/// State shared by a connection and its bodies.
struct State {
    seen: Arc<IoState>,
    /// Parts of the exchange that have not ended.
    parts: Cell<u32>,
    /// Requests so far.
    requests: Cell<u64>,
    blocked: BlockedBytes,
    /// The response's body was not read because of bytes that wait for the client.
    is_parked: Cell<bool>,
    account: Account,
}

impl State {
    fn new(blocked: BlockedBytes, serving: &Serving<'_>) -> Self {
        Self {
            seen: Arc::new(IoState {
                phase: AtomicU8::new(Phase::Idle as u8),
                head: AtomicUsize::new(0),
                informational_headers: serving.informational_headers,
            }),
            parts: Cell::new(0),
            requests: Cell::new(0),
            blocked,
            is_parked: Cell::new(false),
            account: Account::new(Some(serving.client)),
        }
    }

    /// Begins an exchange, whose head is whole.
    fn begin(self: &Rc<Self>) -> Exchange {
        self.seen.set(Phase::Exchange);
        self.seen.head.store(0, Relaxed);
        self.requests.set(self.requests.get() + 1);
        Exchange::new(self)
    }

    /// Counts what is held now; returns true if the connection must close for it.
    fn is_shed(&self, events: &Events<'_, '_>) -> bool {
        let held = self.seen.partial_head() + self.blocked.held();
        self.account.is_shed(held, || events.waker())
    }

    /// Returns true if the response's body must not be read now: its client does not take what has been read.
    fn must_wait(&self) -> bool {
        let must_wait = self.blocked.get() > 0 && budget::is_tight();
        if must_wait {
            self.is_parked.set(true);
        }
        must_wait
    }

    /// Returns true, once, if a body that had to wait may be read.
    fn may_resume(&self) -> bool {
        self.is_parked.get() && self.blocked.get() == 0 && self.is_parked.replace(false)
    }

    /// Counts a head that was too large; other errors are returned. An upgraded connection's I/O is used further.
    fn judge(&self, ended: Result<(), hyper::Error>, serving: &Serving<'_>) -> Result<(), Error> {
        let phase = self.seen.phase();
        self.seen.set(Phase::Over);
        match ended {
            Err(_) if phase == Phase::Refused => Ok(()),
            Err(error) if error.is_parse_too_large() => {
                let limit = if self.seen.head.load(Relaxed) >= limits::HTTP1_HEAD_BYTES.value {
                    limits::HTTP1_HEAD_BYTES
                } else {
                    limits::HTTP1_HEADERS
                };
                refused(serving.metrics, limit, Some(serving.client));
                Ok(())
            }
            ended => Ok(ended?),
        }
    }
}

/// Part of an exchange in progress: its request, or its response.
pub(crate) struct Exchange(Rc<State>);

impl Exchange {
    fn new(state: &Rc<State>) -> Self {
        state.parts.set(state.parts.get() + 1);
        Self(state.clone())
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let state = &self.0;
        state.parts.set(state.parts.get() - 1);
        if state.parts.get() == 0 && state.seen.phase() == Phase::Exchange {
            state.seen.set(Phase::Idle);
        }
    }
}

/// Time that runs, with the number of requests at its start.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
enum Times {
    #[default]
    None,
    Idle(u64),
    Head(u64),
}

impl Times {
    /// Starts the time that the phase wants. An idle time runs on through later exchanges: setting a timer for each
    /// would cost more than the exchange's own parsing.
    fn update(&mut self, state: &State, events: &mut Events<'_, '_>) {
        let requests = state.requests.get();
        match state.seen.phase() {
            Phase::Head if *self != Self::Head(requests) => {
                *self = Self::Head(requests);
                events.start(limits::HTTP1_HEAD.value);
            }
            Phase::Idle if *self == Self::None => {
                *self = Self::Idle(requests);
                events.start(idle_limit(requests).value);
            }
            Phase::Idle | Phase::Head | Phase::Exchange | Phase::Refused | Phase::Over => {}
        }
    }

    /// Returns the limit that has been reached, if it concerns the present phase.
    fn passed(&mut self, state: &State) -> Option<Limit<Duration>> {
        let requests = state.requests.get();
        match (std::mem::take(self), state.seen.phase()) {
            (Self::Head(started), Phase::Head) if started == requests => Some(limits::HTTP1_HEAD),
            (Self::Idle(started), Phase::Idle) if started == requests => Some(idle_limit(requests)),
            _ => None,
        }
    }
}

fn idle_limit(requests: u64) -> Limit<Duration> {
    if requests == 0 {
        limits::HTTP_FIRST_REQUEST
    } else {
        limits::HTTP_IDLE
    }
}

/// Body of a request or a response, which is a part of its exchange.
pub struct ExchangeBody<B> {
    body: B,
    exchange: Exchange,
    is_response: bool,
}

impl<B> ExchangeBody<B> {
    fn request(body: B, exchange: Exchange) -> Self {
        Self {
            body,
            exchange,
            is_response: false,
        }
    }

    fn response(body: B, exchange: Exchange) -> Self {
        Self {
            body,
            exchange,
            is_response: true,
        }
    }
}

impl<B: HttpBody + Unpin> HttpBody for ExchangeBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        if self.is_response && self.exchange.0.must_wait() {
            return Poll::Pending;
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// I/O that notes the phase, and writes the proxy's own refusals.
struct WatchedIo<I> {
    io: BoundedReads<I>,
    seen: Arc<IoState>,
}

impl<I: AsyncRead + AsyncWrite + Unpin> WatchedIo<I> {
    /// Writes an answer as far as the client takes it at once.
    #[cold]
    fn answer(&mut self, cx: &mut Context<'_>, reason: Reason) {
        let row = reason.row();
        let status = row.status.and_then(|status| http::StatusCode::from_u16(status).ok());
        let status = status.unwrap_or(http::StatusCode::BAD_REQUEST);
        let error = if self.seen.informational_headers {
            format!("{L5D_PROXY_ERROR}: {}\r\n", row.sentence)
        } else {
            String::new()
        };
        let answer = format!("HTTP/1.1 {status}\r\n{error}connection: close\r\ncontent-length: 0\r\n\r\n");
        // The connection ends, whether or not the client takes it.
        let _ = Pin::new(&mut self.io).poll_write(cx, answer.as_bytes());
        let _ = Pin::new(&mut self.io).poll_flush(cx);
    }

    /// Returns true if the bytes are hyper's refusal of a head, for which the proxy has an answer of its own.
    fn is_refusal(&self, bytes: &[u8]) -> bool {
        self.seen.phase() == Phase::Head && self.seen.informational_headers && bytes.starts_with(TOO_LARGE)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for WatchedIo<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.seen.phase() == Phase::Refused {
            this.answer(cx, Reason::RequestHeadTimeout);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        this.seen.received(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WatchedIo<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_refusal(buf) {
            this.answer(cx, Reason::RequestHeadTooLarge);
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut this.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if bufs.first().is_some_and(|first| this.is_refusal(first)) {
            this.answer(cx, Reason::RequestHeadTooLarge);
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        Pin::new(&mut this.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
