//! HTTPS for the API server: accept, handshake with the current certificate, HTTP/1 or HTTP/2, one review per request.
//!
//! The port authenticates no client, so every connection, stream and body has a limit: exhaustion would stop admission,
//! or have pods start without a sidecar.

use std::{convert::Infallible, io, sync::Arc, time::Duration, time::Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use injector_patch::Injector;
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    body::{self, Budget},
    cluster::Cluster,
    events::Events,
    metrics::Metrics,
    reload::Current,
    review::{Purpose, Reviewer},
};

/// Concurrent connections; the API servers of a cluster keep a few each. Further ones wait in the backlog.
const CONNECTIONS_MAX: usize = 256;
/// Timeout of a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for the head of an HTTP/1 request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Concurrent requests of one HTTP/2 connection; the API server opens more connections as it needs them.
const STREAMS_MAX: u32 = 16;
/// Interval of HTTP/2 PINGs.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// Timeout of an HTTP/2 PING.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Dependencies of the webhooks.
pub(crate) struct Webhook {
    pub(crate) tls: Current<ServerConfig>,
    pub(crate) injector: Current<Injector>,
    pub(crate) cluster: Cluster,
    pub(crate) events: Events,
    pub(crate) metrics: Metrics,
    pub(crate) bodies: Budget,
}

impl Webhook {
    /// Serves until `stop`, then drains.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let connections = TaskTracker::new();
        while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            let socket = match accepted {
                Ok((socket, _)) => socket,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (webhook, stop) = (Arc::clone(&self), stop.clone());
            connections.spawn(async move {
                webhook.connection(socket, stop).await;
                drop(permit);
            });
        }
        connections.close();
        connections.wait().await;
        Ok(())
    }

    async fn connection(self: Arc<Self>, socket: TcpStream, stop: CancellationToken) {
        let Some(config) = self.tls.borrow().clone() else {
            self.metrics.refused("no_certificate");
            return;
        };
        let _ = socket.set_nodelay(true);
        let handshake = TlsAcceptor::from(config).accept(socket);
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => self.requests(stream, stop).await,
            Ok(Err(error)) => {
                self.metrics.refused("handshake");
                tracing::debug!(%error, "handshake failed");
            }
            Err(_) => self.metrics.refused("handshake"),
        }
    }

    async fn requests(self: Arc<Self>, stream: TlsStream<TcpStream>, stop: CancellationToken) {
        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let io = TokioIo::new(stream);
        let service = service_fn(move |request| {
            let webhook = Arc::clone(&self);
            async move { Ok::<_, Infallible>(webhook.request(request).await) }
        });
        let ended = if is_h2 {
            let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS_MAX)
                .keep_alive_interval(PING_INTERVAL)
                .keep_alive_timeout(PING_TIMEOUT);
            let mut connection = std::pin::pin!(builder.serve_connection(io, service));
            tokio::select! {
                ended = &mut connection => ended,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        } else {
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
            let mut connection = std::pin::pin!(builder.serve_connection(io, service));
            tokio::select! {
                ended = &mut connection => ended,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection failed");
        }
    }

    async fn request(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let began = Instant::now();
        let answered = self.review(request).await;
        self.metrics.took(began.elapsed());
        answered.unwrap_or_else(|(status, reason)| {
            self.metrics.refused("no_answer");
            tracing::warn!(%status, ?reason, "cannot answer a review");
            let mut response = Response::new(Full::from(format!("{reason}\n")));
            *response.status_mut() = status;
            response
        })
    }

    async fn review(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, (StatusCode, String)> {
        let purpose = match request.uri().path() {
            "/" => Purpose::Inject,
            "/validate" => Purpose::Validate,
            _ => {
                return Err((
                    StatusCode::NOT_FOUND,
                    "not found: the webhooks are / and /validate".to_owned(),
                ));
            }
        };
        if request.method() != Method::POST {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "the method must be POST".to_owned()));
        }
        let Some(injector) = self.injector.borrow().clone() else {
            let reason = "values or trust anchors are not loaded yet".to_owned();
            return Err((StatusCode::SERVICE_UNAVAILABLE, reason));
        };
        let (body, _held) = self.bodies.read(request.into_body()).await.map_err(|error| {
            let status = match error {
                body::Error::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
                body::Error::Timeout => StatusCode::REQUEST_TIMEOUT,
                body::Error::Dropped => StatusCode::SERVICE_UNAVAILABLE,
                body::Error::Read(_) => StatusCode::BAD_REQUEST,
            };
            (status, error.to_string())
        })?;
        let reviewer = Reviewer {
            injector: &injector,
            cluster: &self.cluster,
            events: &self.events,
            metrics: &self.metrics,
        };
        let answer = reviewer
            .answer(purpose, &body)
            .await
            .map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
        let mut response = Response::new(Full::from(answer));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("application/json"),
        );
        Ok(response)
    }
}
