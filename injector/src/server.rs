//! HTTPS for the API server, on the server kit: one review per request.
//!
//! The port authenticates no client, so every connection, stream and body has a limit: exhaustion would stop
//! admission, or have pods start without a sidecar.

use std::{convert::Infallible, io, pin::Pin, sync::Arc, time::Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, service::Service};
use injector_patch::Injector;
use proxy_process::serve::{Acceptor, AnyIo, Client, Refusals, Server, accept_tls};
use rustls::ServerConfig;
use tokio::net::TcpStream;

use crate::{
    body::{self, Budget},
    cluster::Cluster,
    events::Events,
    limits,
    metrics::Metrics,
    reload::Current,
    review::{Purpose, Reviewer},
};

/// Dependencies of the webhooks.
pub(crate) struct Webhook {
    pub(crate) tls: Current<ServerConfig>,
    pub(crate) injector: Current<Injector>,
    pub(crate) cluster: Cluster,
    pub(crate) events: Events,
    pub(crate) metrics: Metrics,
    pub(crate) bodies: Budget,
    pub(crate) refusals: Refusals,
}

/// Sets the limits of the webhooks' server.
pub(crate) fn with_limits(mut server: Server) -> Server {
    server.limits.per_client = limits::WEBHOOK_CONNECTIONS_PER_CLIENT;
    // The kubelet probes the admin port.
    server.limits.probes = None;
    server.limits.first_call = Some(limits::WEBHOOK_FIRST_CALL);
    server.limits.idle = Some(limits::WEBHOOK_IDLE_TIME);
    server
}

/// Accepts TLS connections with the current certificate.
pub(crate) struct Webhooks(pub(crate) Arc<Webhook>);

impl Acceptor for Webhooks {
    type Service = Reviews;

    async fn accept(&self, socket: TcpStream, _: Client) -> io::Result<(AnyIo, Reviews)> {
        let webhook = Arc::clone(&self.0);
        let has_certificate = webhook.tls.borrow().is_some();
        let reason = if has_certificate { "handshake" } else { "no_certificate" };
        let accepted = accept_tls(socket, &webhook.tls).await;
        let stream = accepted.inspect_err(|_| webhook.metrics.refused(reason))?;
        Ok((Box::new(stream), Reviews(webhook)))
    }
}

/// Reviews of one connection.
pub(crate) struct Reviews(Arc<Webhook>);

impl Service<Request<Incoming>> for Reviews {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let webhook = Arc::clone(&self.0);
        Box::pin(async move { Ok(webhook.request(request).await) })
    }
}

impl Webhook {
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
            if let Some(limit) = error.limit() {
                self.refusals.count(limit);
            }
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
