//! HTTP/2 by hyper, for endpoints whose windows are to follow what the connection can carry: hyper knows how.

use std::{
    pin::Pin,
    time::{Duration, Instant},
};

use http::{Request, Response};
use hyper::{
    client::conn::http2 as h2,
    rt::{Sleep, Timer},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use proxy_model::{Http2Params, limits};
use proxy_transport::timers;

use crate::{Body, Error, LocalExec, SendError, server::Io};

/// A connection of hyper's.
pub(super) type Adaptive = h2::SendRequest<Body>;

/// Makes a connection of `io`. A task of the current worker drives it and ends with it.
///
/// Any kind of connection is one type here, unlike where most requests go: the program has hyper's client once.
pub(super) async fn connect(io: Box<dyn Io>, params: &Http2Params) -> Result<Adaptive, Error> {
    let (sender, connection) = builder(params).handshake(TokioIo::new(io)).await?;
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an HTTP/2 client connection failed");
        }
    });
    Ok(sender)
}

/// Sends a request, and leaves nothing of it where it was.
pub(super) async fn send(sender: &mut Adaptive, request: &mut Request<Body>) -> Result<Response<Body>, SendError> {
    let sent = sender.try_send_request(std::mem::take(request)).await;
    let response = sent.map_err(|mut failed| {
        let not_sent = failed.take_message().map(|not_sent| *request = not_sent);
        SendError {
            error: failed.into_error().into(),
            not_sent: not_sent.is_some(),
            not_read: false,
        }
    })?;
    Ok(response.map(Body::from))
}

fn builder(params: &Http2Params) -> h2::Builder<LocalExec> {
    let mut builder = h2::Builder::new(LocalExec);
    builder
        .timer(KeptTimer)
        .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW.value)
        .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW.value)
        .max_header_list_size(limits::HEADER_LIST_BYTES.value);
    if let Some(flow) = &params.flow_control {
        if flow.initial_stream_window_size != 0 {
            builder.initial_stream_window_size(flow.initial_stream_window_size);
        }
        if flow.initial_connection_window_size != 0 {
            builder.initial_connection_window_size(flow.initial_connection_window_size);
        }
        if flow.adaptive_flow_control {
            builder.adaptive_window(true);
        }
    }
    if let Some(keep_alive) = &params.keep_alive {
        builder
            .keep_alive_interval(keep_alive.interval)
            .keep_alive_while_idle(keep_alive.while_idle);
        if let Some(timeout) = keep_alive.timeout {
            builder.keep_alive_timeout(timeout);
        }
    }
    if let Some(internals) = &params.internals {
        if internals.max_concurrent_reset_streams != 0 {
            builder.max_concurrent_reset_streams(internals.max_concurrent_reset_streams as usize);
        }
        // hyper panics on a size outside of what HTTP/2 allows.
        if (16_384..=16_777_215).contains(&internals.max_frame_size) {
            builder.max_frame_size(internals.max_frame_size);
        }
        if internals.max_send_buf_size != 0 {
            builder.max_send_buf_size(internals.max_send_buf_size as usize);
        }
    }
    builder
}

/// hyper's timers, kept where a worker's others are.
#[derive(Copy, Clone, Debug)]
struct KeptTimer;

impl Timer for KeptTimer {
    fn sleep(&self, time: Duration) -> Pin<Box<dyn Sleep>> {
        timers::kept(|| TokioTimer::new().sleep(time))
    }

    fn sleep_until(&self, then: Instant) -> Pin<Box<dyn Sleep>> {
        timers::kept(|| TokioTimer::new().sleep_until(then))
    }
}
