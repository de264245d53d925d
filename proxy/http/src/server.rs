//! HTTP servers for a single connection, with the mesh's parameters and graceful shutdown.

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
use crate::{Body, Error, bounded_reads::BoundedReads};

/// Parameters of HTTP/2 servers.
#[derive(Copy, Clone, Debug, Default)]
pub struct ServerParams {
    /// PINGs, also while idle; none disables them.
    pub ping: Option<Ping>,
}

/// PING parameters of an HTTP/2 server.
#[derive(Copy, Clone, Debug)]
pub struct Ping {
    /// Time between PINGs.
    pub interval: Duration,
    /// Time for an answer.
    pub timeout: Duration,
}

/// I/O that a client connection can be served over.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<I: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for I {}

/// Serves HTTP/1 until the client or `drain` ends it. Supports upgrades and half-closed clients.
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
        .serve_connection(TokioIo::new(BoundedReads::new(io)), service)
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

/// Completes when `drain` is cancelled. It is polled with its connection, several times per request, so a poll costs
/// one load unless the token has notified.
async fn drained(drain: &CancellationToken) {
    let mut cancelled = pin!(drain.cancelled());
    let signal = Arc::new(DrainSignal {
        task: AtomicWaker::new(),
        is_set: AtomicBool::new(true),
    });
    let waker = Waker::from(signal.clone());
    let mut registered: Option<Waker> = None;
    poll_fn(|cx| {
        if !registered.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            signal.task.register(cx.waker());
            registered = Some(cx.waker().clone());
        }
        if signal.is_set.load(Ordering::Acquire) {
            // The swap synchronises with the waking thread.
            signal.is_set.swap(false, Ordering::AcqRel);
            return cancelled.as_mut().poll(&mut Context::from_waker(&waker));
        }
        Poll::Pending
    })
    .await;
}

/// Records a notification, and wakes the task.
struct DrainSignal {
    task: AtomicWaker,
    is_set: AtomicBool,
}

impl Wake for DrainSignal {
    fn wake(self: Arc<Self>) {
        self.is_set.store(true, Ordering::Release);
        self.task.wake();
    }
}
