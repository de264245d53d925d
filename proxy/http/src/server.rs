//! Serves one HTTP connection: hyper's connection-level servers with the mesh's parameters and a graceful end.

use std::{
    error::Error as StdError,
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use http_body::Body as HttpBody;
use hyper::{
    body::Incoming,
    server::conn::{http1 as h1, http2 as h2},
    service::HttpService,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use proxy_model::limits;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::LocalExec;

/// Parameters of HTTP/2 servers.
#[derive(Copy, Clone, Debug, Default)]
pub struct ServerParams {
    /// PINGs, also when nothing else happens; none sends none.
    pub ping: Option<Ping>,
}

/// PINGs of an HTTP/2 server.
#[derive(Copy, Clone, Debug)]
pub struct Ping {
    /// Time between them.
    pub interval: Duration,
    /// Time for the answer.
    pub timeout: Duration,
}

/// What a connection of a client can be served from.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<I: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for I {}

/// Serves HTTP/1 until the client or `drain` ends it. Upgrades are possible; a client may close its half early.
pub async fn http1<I, S>(io: I, service: S, drain: &CancellationToken) -> Result<(), hyper::Error>
where
    I: Io,
    S: HttpService<Incoming>,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    S::ResBody: HttpBody + 'static,
    <S::ResBody as HttpBody>::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let connection = h1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        result = connection.as_mut() => return result,
        () = drained(drain) => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

/// Serves HTTP/2 until the client or `drain` (by GOAWAY) ends it.
pub async fn http2<I, S>(io: I, service: S, params: ServerParams, drain: &CancellationToken) -> Result<(), hyper::Error>
where
    I: Io,
    S: HttpService<Incoming>,
    S::Future: 'static,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    S::ResBody: HttpBody + 'static,
    <S::ResBody as HttpBody>::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let mut builder = h2::Builder::new(LocalExec);
    builder
        .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW)
        .max_frame_size(16_384)
        .max_header_list_size(limits::HEADER_LIST_BYTES)
        .max_concurrent_streams(limits::HTTP2_STREAMS);
    if let Some(ping) = params.ping {
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(ping.interval)
            .keep_alive_timeout(ping.timeout);
    }
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    tokio::select! {
        biased;
        result = connection.as_mut() => return result,
        () = drained(drain) => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

/// Ends when `drain` is cancelled. Polled with a connection, that is several times per request, so it costs a load
/// unless it was really told something.
async fn drained(drain: &CancellationToken) {
    let mut cancelled = pin!(drain.cancelled());
    let told = Arc::new(Told {
        task: AtomicWaker::new(),
        is_told: AtomicBool::new(true),
    });
    let waker = Waker::from(told.clone());
    let mut registered: Option<Waker> = None;
    poll_fn(|cx| {
        if !registered.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            told.task.register(cx.waker());
            registered = Some(cx.waker().clone());
        }
        if told.is_told.load(Ordering::Acquire) {
            // A swap sees what the waking thread did before it told us.
            told.is_told.swap(false, Ordering::AcqRel);
            return cancelled.as_mut().poll(&mut Context::from_waker(&waker));
        }
        Poll::Pending
    })
    .await;
}

/// Notes that something was told, and wakes the task.
struct Told {
    task: AtomicWaker,
    is_told: AtomicBool,
}

impl Wake for Told {
    fn wake(self: Arc<Self>) {
        self.is_told.store(true, Ordering::Release);
        self.task.wake();
    }
}
