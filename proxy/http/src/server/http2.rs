//! HTTP/2 on the h2 crate itself. Requests run in the task of their connection: what they answer goes out together, and
//! none of them costs a task of its own.

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
    headers::Seen,
    http2::{
        gate::Gate,
        keep_alive::{self, Pings},
        pump::Pump,
        receive::Received,
        uncork,
    },
};

/// Bytes that wait in the connection for the socket, all streams together; hyper's figure.
const SEND_BUFFER: usize = limits::HTTP2_SERVER_SEND_BUFFER.value;
/// Streams that we reset because of what the peer sent, until the connection is given up; hyper's figure.
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
    let (mut gate, mut streams) = (Gate::new(), FuturesUnordered::new());
    let (mut drained, mut is_draining) = (pin!(drained(drain)), false);
    poll_fn(|cx| {
        if !is_draining && drained.as_mut().poll(cx).is_ready() {
            is_draining = true;
            connection.graceful_shutdown();
        }
        let ended = gate.poll(cx, |cx| {
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
                        let request = request.map(|body| Received::body(body, None));
                        // In a box at once: from here on a request is moved several times, and it is large.
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

/// One request, from its head to the end of its answer.
async fn stream<F, B, E>(mut service: Pin<Box<F>>, mut respond: SendResponse<Bytes>)
where
    F: Future<Output = Result<Response<B>, E>>,
    B: HttpBody<Data = Bytes, Error = Error> + Unpin,
    E: Into<Error>,
{
    let answered = poll_fn(|cx| match service.as_mut().poll(cx) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        // The client may not want it any more.
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
            tracing::debug!(%error, "a request ended without an answer");
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
        Ok(stream) => Pump::new(body, stream).await,
        Err(error) => {
            tracing::debug!(%error, "an answer cannot be sent");
            respond.send_reset(Reason::INTERNAL_ERROR);
        }
    }
}

/// Makes headers fit for HTTP/2: nothing of a connection, the length that is known, and a date (RFC 9110, 6.6.1).
fn fit(headers: &mut HeaderMap, length: Option<u64>) {
    let seen = Seen::of(headers);
    if seen.has(Seen::NOT_IN_HTTP2) {
        h1::strip_for_http2(headers);
    }
    if !seen.has(Seen::DATE) {
        headers.insert(DATE, date::now());
    }
    if let Some(length) = length
        && !seen.has(Seen::CONTENT_LENGTH)
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
