//! HTTP/2 server on the h2 crate. Requests run in the task of their connection: their responses leave together, and no
//! request needs a task of its own.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
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
use proxy_model::limits;
use proxy_transport::{Corked, cork::corked};
use tokio_util::sync::CancellationToken;

use super::{Io, ServerParams, drained};
use crate::{
    Body, Error, date, h1,
    headers::HeaderFlags,
    http2::{
        body_sender::BodySender,
        keep_alive::{self, Pings},
        receive::ReceivedBody,
        uncork,
        waker::CoalescingWaker,
    },
};

/// Bytes buffered for the socket, over all streams; hyper's figure.
const SEND_BUFFER: usize = limits::HTTP2_SERVER_SEND_BUFFER.value;
/// Streams reset because of the peer's errors before the connection is closed; hyper's figure.
const LOCAL_ERROR_RESETS: usize = limits::HTTP2_ERROR_RESETS.value;

/// Serves HTTP/2 until the client or `drain` (by GOAWAY) ends it.
pub async fn http2<I, S, F, B, E>(
    io: I,
    service: S,
    params: ServerParams,
    drain: &CancellationToken,
) -> Result<(), Error>
where
    I: Io,
    S: Fn(Request<Body>) -> F,
    F: Future<Output = Result<Response<B>, E>>,
    B: HttpBody<Data = Bytes, Error = Error> + Unpin + 'static,
    E: Into<Error>,
{
    let io = Corked::new(io);
    let mut connection = builder().handshake(io.clone()).await?;
    let mut pings = pings(params, &mut connection);
    let (mut waker, mut streams) = (CoalescingWaker::new(), FuturesUnordered::new());
    let (mut drained, mut is_draining) = (pin!(drained(drain)), false);
    poll_fn(|cx| {
        if !is_draining && drained.as_mut().poll(cx).is_ready() {
            is_draining = true;
            connection.graceful_shutdown();
        }
        let ended = waker.poll(cx, |cx| {
            if let Some(pings) = &mut pings
                && pings.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Ok(()));
            }
            loop {
                while let Poll::Ready(Some(())) = streams.poll_next_unpin(cx) {}
                match corked(|| connection.poll_accept(cx)) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(None) => return Poll::Ready(Ok(())),
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error.into())),
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        let request = request.map(|body| ReceivedBody::body(body, None));
                        // Boxed at once: from here on the request is moved several times, and it is large.
                        streams.push(stream(Box::pin(service(request)), respond));
                    }
                }
            }
        });
        uncork(ended, cx, &io)
    })
    .await
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(limits::HTTP2_STREAM_WINDOW.value)
        .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW.value)
        .max_frame_size(16_384)
        .max_header_list_size(limits::HEADER_LIST_BYTES.value)
        .max_concurrent_streams(limits::HTTP2_STREAMS.value)
        .max_send_buffer_size(SEND_BUFFER)
        .max_local_error_reset_streams(Some(LOCAL_ERROR_RESETS));
    builder
}

fn pings<I: Io>(
    params: ServerParams,
    connection: &mut Connection<Corked<I>, Bytes>,
) -> Option<LocalBoxFuture<'static, ()>> {
    let ping = params.ping?;
    let pings = Pings {
        interval: ping.interval,
        timeout: ping.timeout,
    };
    Some(keep_alive::unanswered(pings, connection.ping_pong()?, || true))
}

/// Serves one request, from its head to the end of its response.
async fn stream<F, B, E>(mut service: Pin<Box<F>>, mut respond: SendResponse<Bytes>)
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
    let response = match answer {
        None => return,
        Some(Ok(response)) => response,
        Some(Err(error)) => {
            let error: Error = error.into();
            tracing::debug!(%error, "request ended without a response");
            respond.send_reset(error.h2_reason().unwrap_or(Reason::INTERNAL_ERROR));
            return;
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
        Ok(stream) => BodySender::new(body, stream).await,
        Err(error) => {
            tracing::debug!(%error, "cannot send the response");
            respond.send_reset(Reason::INTERNAL_ERROR);
        }
    }
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
