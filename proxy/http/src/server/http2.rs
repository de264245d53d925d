//! HTTP/2 server on the h2 crate. Requests run in the task of their connection: their responses leave together, and no
//! request needs a task of its own.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, future::LocalBoxFuture, stream::FuturesUnordered};
use h2::{
    Reason,
    server::{Builder, Connection, SendResponse},
};
use http::{
    HeaderMap, HeaderValue, Request, Response,
    header::{CONTENT_LENGTH, DATE},
};
use http_body::Body as HttpBody;
use proxy_model::limits::{self, Limit};
use proxy_transport::{Corked, cork::corked, timers};
use tokio::io::{AsyncRead as _, ReadBuf};

use super::{
    Io, ServerParams, Serving, Trust,
    events::{Event, Events},
    floods::{Floods, Work},
    resets::Resets,
};
use crate::{
    Body, Error,
    budget::{HeldBytes, HeldData, Holder},
    date, h1,
    headers::HeaderFlags,
    http2::{
        body_sender::BodySender,
        keep_alive::{self, Pings},
        overhead::{CountedFrames, Overhead},
        receive::ReceivedBody,
        uncork,
        waker::CoalescingWaker,
    },
    refusals::refused,
};

/// Bytes buffered for the socket by each stream; hyper's figure.
const SEND_BUFFER: usize = limits::HTTP2_SERVER_SEND_BUFFER.value;
/// Streams reset because of the peer's errors before the connection is closed; hyper's figure.
const LOCAL_ERROR_RESETS: usize = limits::HTTP2_ERROR_RESETS.value;
/// Bytes of a preface with an empty SETTINGS frame.
const PREFACE: u64 = 24 + 9;
/// Bytes that HTTP/2 counts for each header besides its own (RFC 9113, 6.5.2).
const HEADER_OVERHEAD: usize = 32;

/// Serves HTTP/2 until the client, a limit or a drain (by GOAWAY) ends it.
pub async fn http2<I, S, F, B, E>(io: I, service: S, serving: Serving<'_>) -> Result<(), Error>
where
    I: Io,
    S: Fn(Request<Body>) -> F,
    F: Future<Output = Result<Response<B>, E>>,
    B: HttpBody<Data = Bytes, Error = Error> + Unpin + 'static,
    E: Into<Error>,
{
    let mut io = Corked::new(io);
    let overhead = Overhead::default();
    let handshake = builder(serving.trust).handshake(CountedFrames::new(io.clone(), overhead.clone()));
    let Ok(connection) = timers::timeout(limits::HTTP2_PREFACE.value, handshake).await else {
        refused(serving.metrics, limits::HTTP2_PREFACE, Some(serving.client));
        return Ok(());
    };
    let mut connection = connection.inspect_err(|_| discard(&mut io))?;
    let mut pings = pings(serving.params, &mut connection);
    let (mut waker, mut streams) = (CoalescingWaker::new(), FuturesUnordered::new());
    let cancelled = pin!(serving.drain.cancelled());
    let mut watch = Watch::new(serving, Events::new(cancelled));
    poll_fn(|cx| {
        overhead.begin_turn();
        match watch.poll(cx, streams.is_empty(), io.received()) {
            None => {}
            Some(Verdict::GoAway) => connection.graceful_shutdown(),
            Some(Verdict::End) => return Poll::Ready(Ok(())),
        }
        let ended = waker.poll(cx, |cx| {
            if let Some(pings) = &mut pings
                && pings.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Ok(()));
            }
            loop {
                while let Poll::Ready(Some(ended)) = streams.poll_next_unpin(cx) {
                    watch.ended(ended);
                }
                if watch.is_condemned() {
                    return Poll::Pending;
                }
                match corked(|| connection.poll_accept(cx)) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(None) => return Poll::Ready(Ok(())),
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error.into())),
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        let held = watch.accepted(&request);
                        let request = request.map(|body| ReceivedBody::body(body, None));
                        // Boxed at once: from here on the request is moved several times, and it is large.
                        streams.push(stream(Box::pin(service(request)), respond, held));
                    }
                }
            }
        });
        watch.judge(&overhead);
        if ended.is_pending() && watch.is_condemned() {
            streams.clear();
            watch.count_condemned();
            abort(&mut connection, &io, cx);
            return Poll::Ready(Ok(()));
        }
        let ended = uncork(ended, cx, &io);
        if ended.is_pending() {
            watch.start(streams.is_empty(), io.received());
            overhead.end_turn(cx);
        }
        ended
    })
    .await
}

/// Reads what has come after an invalid preface: a socket that is closed with bytes unread resets its connection.
#[cold]
fn discard<I: Io>(io: &mut Corked<I>) {
    let mut bytes = [0; limits::DETECT_HTTP_BYTES.value];
    let mut cx = Context::from_waker(Waker::noop());
    let _ = Pin::new(io).poll_read(&mut cx, &mut ReadBuf::new(&mut bytes));
}

/// Ends a connection by GOAWAY, as far as the client takes it at once.
#[cold]
fn abort<I: Io>(connection: &mut Connection<CountedFrames<Corked<I>>, HeldData>, io: &Corked<I>, cx: &mut Context<'_>) {
    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
    let _ = corked(|| connection.poll_closed(cx));
    let _ = io.poll_uncork(cx);
}

/// Decision about a connection.
enum Verdict {
    GoAway,
    End,
}

/// Outcome of a stream.
enum StreamEnd {
    Answered,
    /// The client reset it before its answer.
    Reset,
}

/// Time that runs for a connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Time {
    None,
    Preface,
    /// With the number of streams at its start.
    Idle(u64),
    /// After GOAWAY.
    Closing,
}

/// Limits of a connection: time, resets, and bytes that its client makes the proxy hold.
struct Watch<'a, 'd> {
    serving: Serving<'d>,
    events: Events<'a, 'd>,
    time: Time,
    /// Streams so far.
    streams: u64,
    resets: Resets,
    floods: Floods,
    exceeded: Option<Limit<u32>>,
    holder: Rc<Holder>,
}

impl<'a, 'd> Watch<'a, 'd> {
    fn new(serving: Serving<'d>, events: Events<'a, 'd>) -> Self {
        Self {
            serving,
            time: Time::None,
            streams: 0,
            resets: Resets::new(serving.trust),
            floods: Floods::new(),
            exceeded: None,
            holder: Holder::new(events.waker(), Some(serving.client)),
            events,
        }
    }

    fn accepted<T>(&mut self, request: &Request<T>) -> HeldBytes {
        self.streams += 1;
        self.holder.hold(head_length(request))
    }

    fn ended(&mut self, end: StreamEnd) {
        match end {
            StreamEnd::Answered => self.resets.answered(),
            StreamEnd::Reset => self.exceeded = self.exceeded.or(self.resets.reset()),
        }
    }

    /// Judges the frames so far that carry no body.
    fn judge(&mut self, overhead: &Overhead) {
        let exceeded = self.floods.judge(overhead.total(), || {
            let (sent, sent_bytes) = self.holder.released();
            Work {
                requests: self.streams,
                sent,
                sent_bytes,
            }
        });
        self.exceeded = self.exceeded.or(exceeded);
    }

    /// Returns true if the connection must end at once.
    fn is_condemned(&self) -> bool {
        self.exceeded.is_some() || self.holder.is_shed()
    }

    /// Counts the resets or frames that end the connection; the budget counts what it ends.
    fn count_condemned(&self) {
        if let Some(limit) = self.exceeded {
            refused(self.serving.metrics, limit, Some(self.serving.client));
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, is_idle: bool, received: u64) -> Option<Verdict> {
        while let Some(event) = self.events.poll(cx) {
            if event == Event::Drain {
                return Some(Verdict::GoAway);
            }
            let limit = match std::mem::replace(&mut self.time, Time::None) {
                Time::Preface if received < PREFACE => limits::HTTP2_PREFACE,
                Time::Closing if is_idle => return Some(Verdict::End),
                Time::Idle(streams) if is_idle && streams == self.streams => limits::HTTP_IDLE,
                _ => continue,
            };
            refused(self.serving.metrics, limit, Some(self.serving.client));
            if limit == limits::HTTP2_PREFACE {
                return Some(Verdict::End);
            }
            self.time = Time::Closing;
            self.events.start(limits::HTTP2_GOAWAY.value);
            return Some(Verdict::GoAway);
        }
        None
    }

    /// Starts the time that an idle connection has, unless one runs: it runs on through later streams, as setting a
    /// timer for each would cost much.
    fn start(&mut self, is_idle: bool, received: u64) {
        if self.time != Time::None || !is_idle {
            return;
        }
        let (time, limit) = if received < PREFACE {
            (Time::Preface, limits::HTTP2_PREFACE)
        } else {
            (Time::Idle(self.streams), limits::HTTP_IDLE)
        };
        self.time = time;
        self.events.start(limit.value);
    }
}

/// Length of a request's head as HTTP/2 counts it.
fn head_length<T>(request: &Request<T>) -> usize {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let fields = request.headers().iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + value.len() + HEADER_OVERHEAD);
    target + fields.sum::<usize>()
}

fn builder(trust: Trust) -> Builder {
    let streams = match trust {
        Trust::Stranger => limits::HTTP2_STREAMS,
        Trust::Meshed => limits::HTTP2_MESHED_STREAMS,
    };
    let mut builder = Builder::new();
    builder
        .initial_window_size(limits::HTTP2_STREAM_WINDOW.value)
        .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW.value)
        .max_frame_size(16_384)
        .max_header_list_size(limits::HEADER_LIST_BYTES.value)
        .max_concurrent_streams(streams.value)
        .max_send_buffer_size(SEND_BUFFER)
        .max_local_error_reset_streams(Some(LOCAL_ERROR_RESETS));
    builder
}

fn pings<I: Io>(
    params: ServerParams,
    connection: &mut Connection<CountedFrames<Corked<I>>, HeldData>,
) -> Option<LocalBoxFuture<'static, ()>> {
    let ping = params.ping?;
    let pings = Pings {
        interval: ping.interval,
        timeout: ping.timeout,
    };
    Some(keep_alive::unanswered(pings, connection.ping_pong()?, || true))
}

/// Serves one request, from its head to the end of its response. The head is counted until it has been answered.
async fn stream<F, B, E>(mut service: Pin<Box<F>>, mut respond: SendResponse<HeldData>, head: HeldBytes) -> StreamEnd
where
    F: Future<Output = Result<Response<B>, E>>,
    B: HttpBody<Data = Bytes, Error = Error> + Unpin,
    E: Into<Error>,
{
    let answered = poll_fn(|cx| match service.as_mut().poll(cx) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        // The client may have reset the stream.
        Poll::Pending if respond.poll_reset(cx).is_ready() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    });
    let answer = answered.await;
    drop(service);
    let holder = head.release();
    let response = match answer {
        None => return StreamEnd::Reset,
        Some(Ok(response)) => response,
        Some(Err(error)) => {
            let error: Error = error.into();
            tracing::debug!(%error, "request ended without a response");
            respond.send_reset(error.h2_reason().unwrap_or(Reason::INTERNAL_ERROR));
            return StreamEnd::Answered;
        }
    };
    let (mut head, body) = response.into_parts();
    let is_whole = body.is_end_stream();
    fit(
        &mut head.headers,
        (!is_whole).then(|| body.size_hint().exact()).flatten(),
    );
    head.extensions.clear();
    match respond.send_response(Response::from_parts(head, ()), is_whole) {
        Ok(_) if is_whole => {}
        Ok(stream) => BodySender::new(body, stream, holder).await,
        Err(error) => {
            tracing::debug!(%error, "cannot send the response");
            respond.send_reset(Reason::INTERNAL_ERROR);
        }
    }
    StreamEnd::Answered
}

/// Prepares headers for HTTP/2: removes connection headers, and adds a known length and a date (RFC 9110, 6.6.1).
fn fit(headers: &mut HeaderMap, length: Option<u64>) {
    let seen = HeaderFlags::from_headers(headers);
    if seen.has(HeaderFlags::NOT_IN_HTTP2) {
        h1::strip_for_http2(headers);
    }
    if !seen.has(HeaderFlags::DATE) {
        headers.insert(DATE, date::now());
    }
    if let Some(length) = length
        && !seen.has(HeaderFlags::CONTENT_LENGTH)
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
