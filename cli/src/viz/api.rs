//! Client of mesh-viz's HTTP API: at a URL, on this machine, or in a cluster.
//!
//! In a cluster the API is reached by a port-forward through the API server. Only a tap takes another path: it is an
//! aggregated API of the API server, which thus authenticates the user.

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use destination_source::cluster::{self as source, Client as Cluster, Resource as Objects};
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited, combinators::UnsyncBoxBody};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::{Serialize, de::DeserializeOwned};
use viz_api::{Problem, TapRequest, cluster as tap};

use crate::{
    kube::{self, http1},
    local::State,
    output,
};

/// Upper bound on a response; a row has some 500 bytes.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// Deployment of mesh-viz.
const DEPLOYMENT: &str = "mesh-viz";
/// API port of mesh-viz.
const PORT: u16 = proxy_model::ports::VIZ;

/// Streamed response body.
pub(crate) type Body = UnsyncBoxBody<Bytes, anyhow::Error>;

/// Client of one mesh-viz.
#[derive(Clone)]
pub(crate) struct Api {
    way: Transport,
    place: String,
    namespace: String,
}

#[derive(Clone)]
enum Transport {
    Url {
        base: String,
        client: Client<HttpConnector, Empty<Bytes>>,
        token: Option<String>,
    },
    Cluster(Cluster, String),
}

impl Api {
    /// Creates a client of the mesh-viz at the URL `base`.
    pub(crate) fn new(base: &str) -> Result<Self> {
        let base = base.trim_end_matches('/');
        let base = if base.contains("://") {
            base.to_owned()
        } else {
            format!("http://{base}")
        };
        let uri: Uri = base.parse().map_err(|_| anyhow!("invalid URL {base:?}"))?;
        if uri.scheme_str() != Some("http") || uri.host().is_none() {
            bail!("invalid URL {base:?}: expected http://HOST:PORT");
        }
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        Ok(Self {
            place: base.clone(),
            way: Transport::Url {
                base,
                client,
                token: None,
            },
            namespace: "default".to_owned(),
        })
    }

    /// Creates a client of the mesh-viz of a mesh on this machine.
    pub(crate) fn local(mesh: &State) -> Result<Self> {
        let mut api = Self::new(&mesh.viz_url())?;
        if let Transport::Url { token, .. } = &mut api.way {
            *token = Some(mesh.viz_token()?);
        }
        Ok(api.named(format!("the mesh {} on this machine", mesh.name)))
    }

    /// Creates a client of the mesh-viz in a namespace of a cluster.
    pub(crate) fn on(client: Cluster, namespace: &str) -> Self {
        Self {
            place: format!("the cluster at {}", client.url()),
            namespace: client.namespace().to_owned(),
            way: Transport::Cluster(client, namespace.to_owned()),
        }
    }

    /// Replaces the description of the place in messages.
    pub(crate) fn named(self, place: String) -> Self {
        Self { place, ..self }
    }

    /// Describes where mesh-viz runs, for messages.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// Default namespace of resources.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Sends a request and decodes the JSON response.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str, request: &impl Serialize) -> Result<T> {
        let text = self.text(path, request).await?;
        serde_json::from_slice(&text)
            .with_context(|| format!("unexpected response from {}: is it mesh-viz?", self.place))
    }

    /// Sends a request and reads the response as bytes.
    pub(crate) async fn text(&self, path: &str, request: &impl Serialize) -> Result<Bytes> {
        let what = format!("querying mesh-viz at {}", self.place);
        output::patiently(&what, async {
            let body = Limited::new(self.open(path, request).await?, ANSWER_BYTES)
                .collect()
                .await;
            Ok(body
                .map_err(|error| anyhow!("cannot read the response of {}: {error}", self.place))?
                .to_bytes())
        })
        .await
    }

    /// Sends a request and returns the response body as a stream. An error response becomes an error.
    pub(crate) async fn open(&self, path: &str, request: &impl Serialize) -> Result<Body> {
        let path = format!("{path}?{}", viz_api::query_string(request));
        let response = match &self.way {
            Transport::Url { base, client, token } => {
                let mut request = Request::get(format!("{base}{path}"));
                if let Some(token) = token {
                    request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
                }
                let request = request.body(Empty::new());
                let request = request.context("invalid request")?;
                let response = client.request(request).await;
                response.with_context(|| format!("cannot reach mesh-viz at {base}"))?
            }
            Transport::Cluster(client, namespace) => {
                let stream = kube::deployment(client, namespace, DEPLOYMENT, PORT).await;
                let stream = stream.map_err(|error| missing(error, namespace))?;
                http1::get(stream, &path)
                    .await
                    .with_context(|| format!("cannot reach mesh-viz in the namespace {namespace}"))?
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
            Err(_) => bail!("{} returned {status}: is it mesh-viz?", self.place),
        }
    }

    /// Starts a tap: in a cluster through the API server, which authenticates the user, else directly.
    pub(crate) async fn tap(&self, request: &TapRequest) -> Result<Body> {
        let Transport::Cluster(client, namespace) = &self.way else {
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
            Err(error) => return Err(explain_tap_error(client, namespace, error).await),
        };
        Ok(body.map_err(|error| anyhow!("{error}")).boxed_unsync())
    }
}

/// Explains an absent mesh-viz; other errors are kept.
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

/// Explains a failed tap: for an absent API, the API server only reports "not found".
async fn explain_tap_error(client: &Cluster, namespace: &str, error: destination_source::Error) -> anyhow::Error {
    let is_missing = matches!(error, destination_source::Error::Absent { .. });
    let deployments = Objects::new("apps/v1", "deployments").within(namespace);
    if is_missing && deployments.get(client, DEPLOYMENT).await.is_err() {
        return missing(error.into(), namespace);
    }
    error.into()
}
