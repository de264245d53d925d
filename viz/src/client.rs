//! Client for the metrics of a proxy: plaintext, which our own sidecar turns into mutual TLS.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

/// Largest text of metrics.
pub(crate) const METRICS_BYTES: usize = 16 * 1024 * 1024;
/// A proxy's own series are fewer.
const _: () = assert!(proxy_model::limits::METRIC_BYTES.value < METRICS_BYTES);
/// Time for a connection to a proxy.
const CONNECT: Duration = Duration::from_secs(2);
/// Time that an idle connection to a proxy is kept.
const IDLE: Duration = Duration::from_secs(30);

/// Error of fetching metrics.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Connection failed or broke.
    #[error("{0}")]
    Http(String),
    /// Status other than 200.
    #[error("the proxy responded with {0}")]
    Status(StatusCode),
    /// No response in time.
    #[error("no response within {0:?}")]
    Timeout(Duration),
    /// Body that is too large or not text.
    #[error("cannot read the metrics: {0}")]
    Body(String),
}

/// Client that fetches metrics.
#[derive(Clone)]
pub(crate) struct Fetcher {
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl Fetcher {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(1)
            .build(connector);
        Self { client }
    }

    /// Fetches the metrics of the proxy at `address`.
    pub(crate) async fn metrics(&self, address: SocketAddr, timeout: Duration) -> Result<String, Error> {
        tokio::time::timeout(timeout, self.fetch(address))
            .await
            .map_err(|_| Error::Timeout(timeout))?
    }

    async fn fetch(&self, address: SocketAddr) -> Result<String, Error> {
        let request = Request::get(format!("http://{address}/metrics")).header(header::ACCEPT, "text/plain");
        let request = request.body(Empty::new()).expect("an address makes a valid URI");
        let response = self
            .client
            .request(request)
            .await
            .map_err(|e| Error::Http(causes(&e)))?;
        if response.status() != StatusCode::OK {
            return Err(Error::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), METRICS_BYTES).collect().await;
        let body = body.map_err(|e| Error::Body(causes(e.as_ref())))?.to_bytes();
        String::from_utf8(body.into()).map_err(|e| Error::Body(e.to_string()))
    }
}

/// Text of an error with its causes.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
