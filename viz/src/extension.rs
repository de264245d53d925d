//! Tap as an aggregated API of the cluster: HTTPS for the API server, which authenticates the user.
//!
//! ```text
//! mesh viz tap ─▶ API server ──client certificate, X-Remote-User──▶ [server] ─[front]─▶ user ─[authorize]─▶ tap
//! ```
//! The API server has authorized the user already. As in Linkerd's tap, a SubjectAccessReview asks it again: a stolen
//! front-proxy certificate that reaches this port must not grant more than that.

mod authorize;
mod documents;
mod front;
mod server;

use std::sync::Arc;

use axum::{
    Router,
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
    rejection::Rejection,
    tap::{Encoding, Taps},
};

pub(crate) use front::{FrontProxy, follow};
pub(crate) use server::{Certificates, Listening, serve};

/// Largest body of a request: a label selector, a path and some names.
const BODY_BYTES: usize = 64 * 1024;

/// State of the aggregated API.
#[derive(Clone)]
pub(crate) struct Extension {
    pub(crate) client: Client,
    pub(crate) taps: Taps,
    pub(crate) front: watch::Receiver<Arc<FrontProxy>>,
}

/// Name in the client's certificate, if it has one signed by the CA of the front proxy.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientName(pub(crate) Option<String>);

/// Routes of the API.
pub(crate) fn router(extension: Extension) -> Router {
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
        .with_state(extension)
}

/// Serves every other path: a tap, or not found. The path of a tap may have an empty name, which a route cannot match.
async fn watch_path(
    State(extension): State<Extension>,
    axum::Extension(client): axum::Extension<ClientName>,
    request: Request,
) -> Response {
    let tapped = tap(&extension, &client, request).await;
    tapped.unwrap_or_else(documents::status)
}

async fn tap(extension: &Extension, client: &ClientName, request: Request) -> Result<Response, Rejection> {
    let (head, body) = request.into_parts();
    let Some((resource, namespace)) = path::parse_tap_path(head.uri.path()) else {
        let reason = format!("path {} not found", head.uri.path());
        return Err(Rejection(StatusCode::NOT_FOUND, reason));
    };
    if head.method != Method::POST {
        let reason = "a tap needs the method POST".to_owned();
        return Err(Rejection(StatusCode::METHOD_NOT_ALLOWED, reason));
    }
    let user = extension.front.borrow().user(client, &head.headers)?;
    let access = authorize::TapAccess {
        resource: &resource,
        namespace: &namespace,
    };
    authorize::check(&extension.client, &user, &access).await?;
    let body = axum::body::to_bytes(body, BODY_BYTES).await;
    let body = body.map_err(|_| bad(format!("invalid body: larger than {BODY_BYTES} bytes")))?;
    let mut request = decode(&head.headers, &body)?;
    // A tap of a namespace ignores the namespace in the body.
    let elsewhere = request.namespace.as_deref().is_some_and(|ns| ns != namespace) && resource.kind != Kind::Namespace;
    if request.resource != resource || elsewhere {
        let place = request.namespace.unwrap_or_else(|| namespace.clone());
        return Err(bad(format!(
            "the body names {} in {place}, the path {resource} in {namespace}",
            request.resource
        )));
    }
    request.namespace = Some(namespace);
    tracing::info!(user = user.name, tap = %resource, namespace = request.namespace, "tap");
    // "Not found" would be reported for the path, without its reason.
    let started = extension.taps.start(&request, encoding(&head.headers));
    started.map_err(|Rejection(code, reason)| match code {
        StatusCode::NOT_FOUND => bad(reason),
        code => Rejection(code, reason),
    })
}

fn bad(reason: String) -> Rejection {
    Rejection(StatusCode::BAD_REQUEST, reason)
}

fn decode(headers: &HeaderMap, body: &Bytes) -> Result<TapRequest, Rejection> {
    let is_json = text(headers, header::CONTENT_TYPE).starts_with("application/json") || body.starts_with(b"{");
    if is_json {
        return serde_json::from_slice(body).map_err(|error| bad(format!("invalid body: {error}")));
    }
    wire::decode(body).map_err(|error| bad(error.to_string()))
}

fn encoding(headers: &HeaderMap) -> Encoding {
    if text(headers, header::ACCEPT).contains(path::LINES) {
        Encoding::Lines
    } else {
        Encoding::Messages
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}
