//! The client of mesh-viz's HTTP API.

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::{Serialize, de::DeserializeOwned};
use viz_api::Problem;

/// Largest answer that is read; a row has some 500 bytes.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// A client of one mesh-viz.
#[derive(Clone)]
pub(crate) struct Api {
    base: String,
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl Api {
    /// A client of the mesh-viz at `base`.
    pub(crate) fn new(base: &str) -> Result<Self> {
        let base = base.trim_end_matches('/');
        let base = if base.contains("://") {
            base.to_owned()
        } else {
            format!("http://{base}")
        };
        let uri: Uri = base.parse().map_err(|_| anyhow!("{base:?} is no URL"))?;
        if uri.scheme_str() != Some("http") || uri.host().is_none() {
            bail!("{base:?} is no http:// URL");
        }
        Ok(Self {
            base,
            client: Client::builder(TokioExecutor::new()).build(HttpConnector::new()),
        })
    }

    /// Asks, and reads the answer.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str, request: &impl Serialize) -> Result<T> {
        let text = self.text(path, request).await?;
        serde_json::from_slice(&text).with_context(|| format!("the answer of {} is not mesh-viz's", self.base))
    }

    /// Asks, and reads the answer as it is.
    pub(crate) async fn text(&self, path: &str, request: &impl Serialize) -> Result<Bytes> {
        let response = self.open(path, request).await?;
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
        Ok(body
            .map_err(|e| anyhow!("the answer of {} broke off: {e}", self.base))?
            .to_bytes())
    }

    /// Asks, and leaves the answer's body to be read as it comes. A refusal is the error, in mesh-viz's own words.
    pub(crate) async fn open(&self, path: &str, request: &impl Serialize) -> Result<Response<Incoming>> {
        let uri = format!("{}{path}?{}", self.base, viz_api::query_string(request));
        let request = Request::get(uri).body(Empty::new()).context("the request is invalid")?;
        let response = self.client.request(request).await;
        let response = response.with_context(|| format!("mesh-viz does not answer at {}", self.base))?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
        let text = body.map(|b| b.to_bytes()).unwrap_or_default();
        match serde_json::from_slice::<Problem>(&text) {
            Ok(problem) => bail!(problem.error),
            Err(_) => bail!("{} answered {status}; is it mesh-viz?", self.base),
        }
    }
}
