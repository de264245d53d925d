//! One connection to a service of the control plane, kept up by a task; calls wait for it while it is down.
//!
//! Because calls wait, all streams return at once after an outage: none of them sleeps through the reconnection.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, Uri, uri::Authority};
use hyper::client::conn::http2::SendRequest;
use proxy_metrics::ControlSlot;
use tokio::sync::watch;
use tower::Service;

use super::{Connector, Error, connect::Connected, counted::CountedBody};

/// First pause before the next attempt.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest pause: all streams must be back within 2 s after an outage.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Time that a connection may stay without an answer. A replica that has just started accepts connections before its
/// initial sync; another replica may be ready.
const SILENCE: Duration = Duration::from_secs(3);

type Sender = Option<Live>;

/// A connection, and its progress.
#[derive(Clone, Debug)]
struct Live {
    send: SendRequest<tonic::body::Body>,
    usage: Arc<Usage>,
}

impl Live {
    fn new(send: SendRequest<tonic::body::Body>) -> Self {
        let usage = Arc::default();
        Self { send, usage }
    }
}

/// Progress on a connection.
#[derive(Debug, Default)]
struct Usage {
    asked: AtomicBool,
    answered: AtomicBool,
}

impl Usage {
    /// Ends when calls have had no answer for a while. A connection that has answered once stays.
    async fn silent(&self, after: Duration) {
        let mut asked = false;
        while !self.answered.load(Relaxed) {
            if asked {
                return;
            }
            tokio::time::sleep(after / 2).await;
            asked = self.asked.load(Relaxed);
            tokio::time::sleep(after / 2).await;
        }
        std::future::pending::<()>().await;
    }
}

/// Transport of calls to a service. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    connection: watch::Receiver<Sender>,
    authority: Authority,
    metrics: ControlSlot,
}

impl Channel {
    /// A channel, and the task that keeps it up until all its clones are dropped.
    pub(crate) fn new(connector: Connector, metrics: ControlSlot) -> (Self, impl Future<Output = ()>) {
        let (sender, connection) = watch::channel(None);
        let text = connector.service.addr.to_string();
        let authority = text.parse().unwrap_or_else(|_| Authority::from_static("control-plane"));
        (
            Self {
                connection,
                authority,
                metrics,
            },
            keep_up(connector, sender),
        )
    }

    /// Waits until there is a connection.
    pub(crate) async fn connected(&self) {
        let mut connection = self.connection.clone();
        if connection.wait_for(Option::is_some).await.is_err() {
            // Its task has ended, so a connection can no longer come.
            std::future::pending::<()>().await;
        }
    }

    /// A channel over one connection; for a single call.
    pub(crate) fn over(
        connected: Connected,
        connector: &Connector,
        metrics: ControlSlot,
    ) -> (Self, impl Future<Output = ()>) {
        let (sender, connection) = watch::channel(Some(Live::new(connected.send)));
        let text = connector.service.addr.to_string();
        let authority = text.parse().unwrap_or_else(|_| Authority::from_static("control-plane"));
        let driver = async move {
            let _ = connected.driver.await;
            drop(sender);
        };
        (
            Self {
                connection,
                authority,
                metrics,
            },
            driver,
        )
    }
}

async fn keep_up(connector: Connector, sender: watch::Sender<Sender>) {
    let service = connector.service.addr.to_string();
    let mut wait = BACKOFF_MIN;
    let mut down = false;
    // The replica that did not answer.
    let mut avoid = None;
    loop {
        if connector.service.tls.is_some() {
            // Every call depends on the proxy's identity.
            connector.tls.certified().await;
        }
        match connector.connect(avoid.take()).await {
            Ok(connected) => {
                tracing::info!(%service, addr = %connected.addr, "connected to the control plane");
                (wait, down) = (BACKOFF_MIN, false);
                let live = Live::new(connected.send);
                sender.send_replace(Some(live.clone()));
                let reason = tokio::select! {
                    ended = connected.driver => ended.err().map_or_else(|| "closed".to_owned(), |error| error.to_string()),
                    () = live.usage.silent(SILENCE) => {
                        avoid = Some(connected.addr);
                        format!("no answer in {SILENCE:?}")
                    }
                    () = sender.closed() => return,
                };
                sender.send_replace(None);
                tracing::info!(%service, %reason, "disconnected from the control plane");
            }
            Err(error) if !std::mem::replace(&mut down, true) => {
                tracing::warn!(%service, %error, "cannot connect to the control plane; retrying");
            }
            Err(error) => tracing::debug!(%service, %error, "cannot connect to the control plane"),
        }
        tokio::select! {
            () = tokio::time::sleep(wait.mul_f64(1.0 - 0.1 * fastrand::f64())) => {}
            () = sender.closed() => return,
        }
        wait = (wait * 2).min(BACKOFF_MAX);
    }
}

impl Service<Request<tonic::body::Body>> for Channel {
    type Response = Response<CountedBody>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<tonic::body::Body>) -> Self::Future {
        let (mut connection, metrics, authority) =
            (self.connection.clone(), self.metrics.clone(), self.authority.clone());
        Box::pin(async move {
            let mut uri = std::mem::take(request.uri_mut()).into_parts();
            uri.scheme = Some(http::uri::Scheme::HTTP);
            uri.authority = Some(authority);
            *request.uri_mut() = Uri::from_parts(uri).expect("a scheme, an authority and gRPC's path");
            let connected = connection
                .wait_for(Option::is_some)
                .await
                .map_err(|_| Error::Closed)?
                .clone();
            let Live { mut send, usage } = connected.ok_or(Error::Closed)?;
            metrics.request();
            usage.asked.store(true, Relaxed);
            match send.send_request(request).await {
                Ok(response) => {
                    usage.answered.store(true, Relaxed);
                    Ok(CountedBody::wrap(response, metrics))
                }
                Err(error) => {
                    metrics.response(None);
                    Err(error.into())
                }
            }
        })
    }
}

#[cfg(test)]
mod tests;
