//! HTTPS for the API server: accept, handshake with the certificate of the moment, HTTP/1 or HTTP/2, one review a request.

use std::{convert::Infallible, io, sync::Arc, time::Duration, time::Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
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
    cluster::Cluster,
    events::Events,
    metrics::Metrics,
    reload::Current,
    review::{Purpose, Reviewer},
};

/// Connections at a time; the API servers of a cluster keep a few each. More wait in the backlog.
const CONNECTIONS_MAX: usize = 256;
/// Time for a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a request's body; the API server itself waits ten seconds for all of it.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest review: the object, of at most 3 MiB, once or twice, and what is said of it.
const BODY_BYTES_MAX: usize = 8 << 20;
/// Requests of one HTTP/2 connection at a time.
const STREAMS_MAX: u32 = 256;
/// Pause after an accept that failed for want of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What requests are answered from.
pub(crate) struct Webhook {
    pub(crate) tls: Current<ServerConfig>,
    pub(crate) injector: Current<Injector>,
    pub(crate) cluster: Cluster,
    pub(crate) events: Events,
    pub(crate) metrics: Metrics,
}

impl Webhook {
    /// Serves until `stop`, and then ends what is under way.
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
                    tracing::warn!(%error, "a connection was not accepted");
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
                tracing::debug!(%error, "no handshake");
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
            builder.timer(TokioTimer::new()).max_concurrent_streams(STREAMS_MAX);
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
            builder.timer(TokioTimer::new());
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
            tracing::debug!(%error, "a connection ended early");
        }
    }

    async fn request(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let began = Instant::now();
        let answered = self.review(request).await;
        self.metrics.took(began.elapsed());
        answered.unwrap_or_else(|(status, reason)| {
            self.metrics.refused("no_answer");
            tracing::warn!(%status, %reason, "a review has no answer");
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
                    "reviews are asked for at / and /validate".to_owned(),
                ));
            }
        };
        if request.method() != Method::POST {
            return Err((
                StatusCode::METHOD_NOT_ALLOWED,
                "reviews are asked for by POST".to_owned(),
            ));
        }
        let Some(injector) = self.injector.borrow().clone() else {
            let reason = "the values or the trust anchors are not there yet".to_owned();
            return Err((StatusCode::SERVICE_UNAVAILABLE, reason));
        };
        let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect();
        let body = match tokio::time::timeout(BODY_TIMEOUT, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let reason = format!("a review has at most {BODY_BYTES_MAX} bytes");
                return Err((StatusCode::PAYLOAD_TOO_LARGE, reason));
            }
            Ok(Err(error)) => return Err((StatusCode::BAD_REQUEST, format!("the body broke off: {error}"))),
            Err(_) => return Err((StatusCode::REQUEST_TIMEOUT, "the body took too long".to_owned())),
        };
        let reviewer = Reviewer {
            injector: &injector,
            cluster: &self.cluster,
            events: &self.events,
            metrics: &self.metrics,
        };
        let answer = reviewer
            .answer(purpose, &body)
            .map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
        let mut response = Response::new(Full::from(answer));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("application/json"),
        );
        Ok(response)
    }
}
