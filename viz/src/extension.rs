//! Tap as an aggregated API of the cluster: HTTPS for the API server, which says for whom it asks.
//!
//! ```text
//! mesh viz tap ─▶ API server ──client certificate, X-Remote-User──▶ [server] ─[front]─▶ who ─[authorize]─▶ tap
//! ```
//! The API server has looked at the user's rights already; as Linkerd's tap does, we ask it again by SubjectAccessReview,
//! for whoever reaches our port with a stolen front-proxy certificate must not be believed more than that.

mod authorize;
mod documents;
mod front;
mod server;

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::Response,
    routing::get,
};
use destination_source::cluster::Client;
use tokio::sync::watch;
use viz_api::{Kind, TapRequest, cluster as path, wire};

use crate::{
    api::Refused,
    tap::{Form, Taps},
};

pub(crate) use front::{Front, follow};
pub(crate) use server::{Certificates, serve};

/// Largest body of a request for a tap: a label selector, a path and some names.
const BODY_BYTES: usize = 64 * 1024;

/// What the aggregated API needs.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) client: Client,
    pub(crate) taps: Taps,
    /// How to know the API server.
    pub(crate) front: watch::Receiver<Arc<Front>>,
}

/// The name in the client's certificate, if it has shown one that the front proxy's CA has signed.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientName(pub(crate) Option<String>);

/// All of its paths.
pub(crate) fn router(parts: Parts) -> Router {
    let group = format!("/apis/{}", path::GROUP);
    Router::new()
        .route("/", get(documents::paths))
        .route("/apis", get(documents::groups))
        .route(&group, get(documents::group))
        .route(&format!("{group}/{}", path::VERSION), get(documents::resources))
        .route("/openapi/v2", get(documents::openapi))
        .route("/version", get(documents::version))
        .route("/healthz", get(async || "ok"))
        .route("/healthz/ping", get(async || "ok"))
        .route("/livez", get(async || "ok"))
        .route("/readyz", get(async || "ok"))
        .fallback(watch_path)
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(parts)
}

/// Everything else: a tap, or nothing. The path of one may have an empty name, which no route can.
async fn watch_path(
    State(parts): State<Parts>,
    Extension(client): Extension<ClientName>,
    request: Request,
) -> Response {
    let tapped = tap(&parts, &client, request).await;
    tapped.unwrap_or_else(documents::status)
}

async fn tap(parts: &Parts, client: &ClientName, request: Request) -> Result<Response, Refused> {
    let (head, body) = request.into_parts();
    let Some((resource, namespace)) = path::parse_tap_path(head.uri.path()) else {
        let reason = format!("there is nothing at {}", head.uri.path());
        return Err(Refused(StatusCode::NOT_FOUND, reason));
    };
    if head.method != Method::POST {
        let reason = "a tap is asked for by POST".to_owned();
        return Err(Refused(StatusCode::METHOD_NOT_ALLOWED, reason));
    }
    let user = parts.front.borrow().user(client, &head.headers)?;
    let wanted = authorize::Wanted {
        resource: &resource,
        namespace: &namespace,
    };
    authorize::check(&parts.client, &user, &wanted).await?;
    let body = axum::body::to_bytes(body, BODY_BYTES).await;
    let body = body.map_err(|_| bad(format!("a request for a tap has at most {BODY_BYTES} bytes")))?;
    let mut request = decode(&head.headers, &body)?;
    // A namespace stands in none, whatever is said.
    let elsewhere = request.namespace.as_deref().is_some_and(|ns| ns != namespace) && resource.kind != Kind::Namespace;
    if request.resource != resource || elsewhere {
        let place = request.namespace.unwrap_or_else(|| namespace.clone());
        return Err(bad(format!(
            "the body asks for {} in {place}, the path for {resource} in {namespace}",
            request.resource
        )));
    }
    request.namespace = Some(namespace);
    tracing::info!(user = user.name, tap = %resource, namespace = request.namespace, "tap");
    // "Not found" would be taken for the path, and its reason lost.
    let started = parts.taps.start(&request, form(&head.headers));
    started.map_err(|Refused(code, reason)| match code {
        StatusCode::NOT_FOUND => bad(reason),
        code => Refused(code, reason),
    })
}

fn bad(reason: String) -> Refused {
    Refused(StatusCode::BAD_REQUEST, reason)
}

fn decode(headers: &HeaderMap, body: &Bytes) -> Result<TapRequest, Refused> {
    let is_json = text(headers, header::CONTENT_TYPE).starts_with("application/json") || body.starts_with(b"{");
    if is_json {
        return serde_json::from_slice(body).map_err(|error| bad(format!("the body is no request for a tap: {error}")));
    }
    wire::decode(body).map_err(|error| bad(error.to_string()))
}

fn form(headers: &HeaderMap) -> Form {
    if text(headers, header::ACCEPT).contains(path::LINES) {
        Form::Lines
    } else {
        Form::Messages
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}
