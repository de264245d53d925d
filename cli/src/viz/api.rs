//! The client of mesh-viz's HTTP API: of a mesh on this machine, at a URL, or in a cluster.
//!
//! In a cluster the API is reached by a port-forward through the API server. Only a tap goes another way: it is an API of
//! the API server itself, which thereby knows who asks.

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use destination_source::cluster::{self as source, Client as Cluster, Resource as Objects};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited, combinators::UnsyncBoxBody};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::{Serialize, de::DeserializeOwned};
use viz_api::{Problem, TapRequest, cluster as tap};

use crate::{
    kube::{self, http1},
    output,
};

/// Largest answer that is read; a row has some 500 bytes.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// The Deployment of mesh-viz.
const DEPLOYMENT: &str = "mesh-viz";
/// Its port.
const PORT: u16 = 8085;

/// An answer's body, as it comes.
pub(crate) type Body = UnsyncBoxBody<Bytes, anyhow::Error>;

/// A client of one mesh-viz.
#[derive(Clone)]
pub(crate) struct Api {
    way: Way,
    place: String,
    namespace: String,
}

#[derive(Clone)]
enum Way {
    Url(String, Client<HttpConnector, Empty<Bytes>>),
    Cluster(Cluster, String),
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
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        Ok(Self {
            place: base.clone(),
            way: Way::Url(base, client),
            namespace: "default".to_owned(),
        })
    }

    /// A client of the mesh-viz in a namespace of a cluster.
    pub(crate) fn on(client: Cluster, namespace: &str) -> Self {
        Self {
            place: format!("the cluster at {}", client.url()),
            namespace: client.namespace().to_owned(),
            way: Way::Cluster(client, namespace.to_owned()),
        }
    }

    /// Under another name of where it is.
    pub(crate) fn named(self, place: String) -> Self {
        Self { place, ..self }
    }

    /// Where it is, for people.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// The namespace that is meant when none is named.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Asks, and reads the answer.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str, request: &impl Serialize) -> Result<T> {
        let text = self.text(path, request).await?;
        serde_json::from_slice(&text).with_context(|| format!("the answer of {} is not mesh-viz's", self.place))
    }

    /// Asks, and reads the answer as it is.
    pub(crate) async fn text(&self, path: &str, request: &impl Serialize) -> Result<Bytes> {
        let what = format!("asking mesh-viz at {}", self.place);
        output::patiently(&what, async {
            let body = Limited::new(self.open(path, request).await?, ANSWER_BYTES)
                .collect()
                .await;
            Ok(body
                .map_err(|error| anyhow!("the answer of {} broke off: {error}", self.place))?
                .to_bytes())
        })
        .await
    }

    /// Asks, and leaves the answer's body to be read as it comes. A refusal is the error, in mesh-viz's own words.
    pub(crate) async fn open(&self, path: &str, request: &impl Serialize) -> Result<Body> {
        let path = format!("{path}?{}", viz_api::query_string(request));
        let response = match &self.way {
            Way::Url(base, client) => {
                let request = Request::get(format!("{base}{path}")).body(Empty::new());
                let request = request.context("the request is invalid")?;
                let response = client.request(request).await;
                response.with_context(|| format!("mesh-viz does not answer at {base}"))?
            }
            Way::Cluster(client, namespace) => {
                let stream = kube::deployment(client, namespace, DEPLOYMENT, PORT).await;
                let stream = stream.map_err(|error| missing(error, namespace))?;
                http1::get(stream, &path)
                    .await
                    .with_context(|| format!("mesh-viz does not answer in the namespace {namespace}"))?
            }
        };
        if response.status() == StatusCode::OK {
            return Ok(response.into_body().map_err(anyhow::Error::from).boxed_unsync());
        }
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
        let text = body.map(|b| b.to_bytes()).unwrap_or_default();
        match serde_json::from_slice::<Problem>(&text) {
            Ok(problem) => bail!(problem.error),
            Err(_) => bail!("{} answered {status}; is it mesh-viz?", self.place),
        }
    }

    /// Taps: by the API server of a cluster, which says who asks, else by mesh-viz itself.
    pub(crate) async fn tap(&self, request: &TapRequest) -> Result<Body> {
        let Way::Cluster(client, namespace) = &self.way else {
            return self.open(viz_api::TAP, request).await;
        };
        let of = request.namespace.as_deref().unwrap_or_else(|| client.namespace());
        let call = source::Post {
            what: format!("tap {} in the namespace {of}", request.resource),
            path: tap::tap_path(&request.resource, of),
            accept: tap::LINES,
            body: serde_json::to_vec(request)?,
        };
        let body = match source::post(client, call).await {
            Ok(body) => body,
            Err(error) => return Err(why_no_tap(client, namespace, error).await),
        };
        Ok(body.map_err(|error| anyhow!("{error}")).boxed_unsync())
    }
}

/// What is missing when there is no pod of mesh-viz.
fn missing(error: anyhow::Error, namespace: &str) -> anyhow::Error {
    use destination_source::Error as Cause;
    match error.downcast_ref::<Cause>() {
        Some(Cause::Absent { .. }) => anyhow!(
            "viz is not installed in the namespace {namespace}: run `mesh viz install | kubectl apply -f -`, or name \
             its namespace by --viz-namespace"
        ),
        _ => error,
    }
}

/// The API server says of an API that it does not have only that there is no such thing.
async fn why_no_tap(client: &Cluster, namespace: &str, error: destination_source::Error) -> anyhow::Error {
    let is_missing = matches!(error, destination_source::Error::Absent { .. });
    let deployments = Objects::new("apps/v1", "deployments").within(namespace);
    if is_missing && deployments.get(client, DEPLOYMENT).await.is_err() {
        return missing(error.into(), namespace);
    }
    error.into()
}
