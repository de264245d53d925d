//! Serves one HTTP connection, with the mesh's parameters and a graceful end.

mod http2;

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{TryFutureExt as _, task::AtomicWaker};
use http::{Request, Response};
use http_body::Body as HttpBody;
use hyper::{body::Incoming, server::conn::http1 as h1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

pub use self::http2::http2;
use crate::{Body, Error, reads::Reads};

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
pub async fn http1<I, S, F, B, E>(io: I, service: S, drain: &CancellationToken) -> Result<(), Error>
where
    I: Io,
    S: Fn(Request<Body>) -> F,
    F: Future<Output = Result<Response<B>, E>>,
    B: HttpBody<Data = Bytes, Error = Error> + 'static,
    E: Into<Error>,
{
    let service =
        service_fn(|request: Request<Incoming>| service(request.map(Body::from)).map_err(Into::<Error>::into));
    let connection = h1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(Reads::bounded(io)), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        result = connection.as_mut() => return Ok(result?),
        () = drained(drain) => {}
    }
    connection.as_mut().graceful_shutdown();
    Ok(connection.await?)
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
