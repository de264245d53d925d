//! Hostile clients against one connection of the servers: raw bytes over an in-memory connection, under a paused clock.

mod floods;
mod flow;
pub(crate) mod frames;
mod http1;
mod http2;

use std::{
    cell::RefCell,
    convert::Infallible,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use proxy_metrics::Metrics;
use tokio::{
    io::DuplexStream,
    task::{JoinHandle, LocalSet, spawn_local},
};
use tokio_util::sync::CancellationToken;

use super::{Io, ServerParams, Serving, Trust};
use crate::{Body, Error};

/// Longer than any limit, far shorter than the tests' patience: the clock is paused.
const LONG: Duration = Duration::from_secs(3600);
/// Bytes that fit into the in-memory connection.
const PIPE: usize = 16 * 1024;

/// Server under attack.
struct Victim {
    metrics: Metrics,
    drain: CancellationToken,
    trust: Trust,
}

impl Victim {
    fn new() -> Self {
        Self {
            metrics: Metrics::default(),
            drain: CancellationToken::new(),
            trust: Trust::Stranger,
        }
    }

    fn meshed() -> Self {
        Self {
            trust: Trust::Meshed,
            ..Self::new()
        }
    }

    fn http1<S>(&self, service: S) -> (DuplexStream, JoinHandle<()>)
    where
        S: AsyncFn(Request<Body>) -> Response<Body> + 'static,
    {
        let (far, near) = tokio::io::duplex(PIPE);
        let (recorder, drain, trust) = (self.metrics.recorder(), self.drain.clone(), self.trust);
        let service = Rc::new(service);
        let served = spawn_local(async move {
            let service = move |request| {
                let service = service.clone();
                async move { Ok::<_, Infallible>(service(request).await) }
            };
            let _ = super::http1(near, service, serving(trust, &recorder, &drain)).await;
        });
        (far, served)
    }

    fn http2<S>(&self, service: S) -> (DuplexStream, JoinHandle<()>)
    where
        S: AsyncFn(Request<Body>) -> Response<Body> + 'static,
    {
        let (far, near) = tokio::io::duplex(PIPE);
        (far, self.http2_over(near, service))
    }

    fn http2_over<S>(&self, io: impl Io, service: S) -> JoinHandle<()>
    where
        S: AsyncFn(Request<Body>) -> Response<Body> + 'static,
    {
        let (recorder, drain, trust) = (self.metrics.recorder(), self.drain.clone(), self.trust);
        let service = Rc::new(service);
        spawn_local(async move {
            let service = move |request| {
                let service = service.clone();
                async move { Ok::<_, Infallible>(service(request).await) }
            };
            let _ = super::http2(io, service, serving(trust, &recorder, &drain)).await;
        })
    }

    /// Returns the number of refusals by a limit.
    fn refused(&self, limit: &str) -> u64 {
        let label = format!("mesh_limit_refused_total{{limit=\"{limit}\"}} ");
        let text = self.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(&label));
        line.map_or(0, |count| count.parse().expect("a count"))
    }
}

fn serving<'a>(trust: Trust, metrics: &'a proxy_metrics::Recorder, drain: &'a CancellationToken) -> Serving<'a> {
    Serving {
        trust,
        informational_headers: trust == Trust::Meshed,
        client: ([192, 0, 2, 1], 5000).into(),
        params: ServerParams::default(),
        metrics,
        drain,
    }
}

/// Runs a test on a thread of its own tasks.
async fn local<F: Future>(test: F) -> F::Output {
    LocalSet::new().run_until(test).await
}

async fn empty(_: Request<Body>) -> Response<Body> {
    Response::new(Body::Empty)
}

/// Never answers.
async fn silent(_: Request<Body>) -> Response<Body> {
    std::future::pending().await
}

/// Ends with the connection, or fails the test.
async fn ended(served: JoinHandle<()>) {
    tokio::time::timeout(LONG, served)
        .await
        .expect("the connection is closed")
        .expect("no panic");
}

/// Endless body that counts the bytes it was asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endless(Rc<RefCell<usize>>);

impl Endless {
    const CHUNK: usize = 128 * 1024;

    pub(crate) fn produced(&self) -> usize {
        *self.0.borrow()
    }

    fn response(&self) -> Response<Body> {
        Response::new(Body::boxed(self.clone()))
    }
}

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        *self.0.borrow_mut() += Self::CHUNK;
        Poll::Ready(Some(Ok(Frame::data(vec![7; Self::CHUNK].into()))))
    }
}

/// Lets all tasks run until nothing is left to do.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}
