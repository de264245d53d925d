//! HTTP API: rows as JSON, taps as lines of JSON, rejections as a sentence in JSON.

use crate::{
    rejection::Rejection,
    scrape::Telemetry,
    tap,
    token::{self, Token},
};
use axum::{
    Json, Router,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use proxy_process::{admin::Readiness, serve::Plain};
use viz_api::{
    Answer, AuthzRequest, EdgesRequest, PodRow, ProxyMetricsRequest, RoutesRequest, StatRequest, TapRequest, cluster,
};

/// Parameters of a request.
type Parameters<T> = Result<Query<T>, QueryRejection>;

#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) telemetry: Telemetry,
    /// None on a cluster, where the user is not known here.
    pub(crate) taps: Option<tap::Taps>,
    pub(crate) ready: Readiness,
    /// None where anyone may ask.
    pub(crate) token: Option<Token>,
}

/// Routes of the API, and those of probes alone.
pub(crate) fn routers(api: Api) -> Plain {
    let probes = Router::new()
        .route("/live", get(async || "live\n"))
        .route("/ready", get(is_ready))
        .with_state(api.clone());
    let token = api.token.clone();
    let mut service = Router::new()
        .route(viz_api::STAT, get(stat))
        .route(viz_api::EDGES, get(edges))
        .route(viz_api::ROUTES, get(routes))
        .route(viz_api::AUTHZ, get(authz))
        .route(viz_api::TAP, get(tap))
        .route(viz_api::PODS, get(pods))
        .route(viz_api::PROXY_METRICS, get(proxy_metrics))
        .with_state(api);
    if let Some(token) = token {
        service = service.layer(middleware::from_fn_with_state(token, token::check));
    }
    Plain {
        service: service.merge(probes.clone()),
        probes,
    }
}

async fn is_ready(State(api): State<Api>) -> Response {
    if api.ready.is_ready() {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
    }
}

async fn stat(State(api): State<Api>, request: Parameters<StatRequest>) -> Result<Response, Rejection> {
    let Query(request) = request?;
    check_window(&api.telemetry, request.window_ms)?;
    let rows = viz_query::stat(&request, &api.telemetry.objects(), &api.telemetry.window())?;
    Ok(Json(Answer {
        rows,
        source: api.telemetry.source(request.window_ms),
    })
    .into_response())
}

async fn edges(State(api): State<Api>, request: Parameters<EdgesRequest>) -> Result<Response, Rejection> {
    let Query(request) = request?;
    check_window(&api.telemetry, request.window_ms)?;
    let rows = viz_query::edges(&request, &api.telemetry.objects(), &api.telemetry.window())?;
    Ok(Json(Answer {
        rows,
        source: api.telemetry.source(request.window_ms),
    })
    .into_response())
}

async fn routes(State(api): State<Api>, request: Parameters<RoutesRequest>) -> Result<Response, Rejection> {
    let Query(request) = request?;
    check_window(&api.telemetry, request.window_ms)?;
    let rows = viz_query::routes(&request, &api.telemetry.objects(), &api.telemetry.window())?;
    Ok(Json(Answer {
        rows,
        source: api.telemetry.source(request.window_ms),
    })
    .into_response())
}

async fn authz(State(api): State<Api>, request: Parameters<AuthzRequest>) -> Result<Response, Rejection> {
    let Query(request) = request?;
    check_window(&api.telemetry, request.window_ms)?;
    let rows = viz_query::authz(&request, &api.telemetry.window())?;
    Ok(Json(Answer {
        rows,
        source: api.telemetry.source(request.window_ms),
    })
    .into_response())
}

fn check_window(telemetry: &Telemetry, window_ms: u64) -> Result<(), viz_query::Error> {
    let kept_ms = telemetry.window_max_ms();
    if window_ms > kept_ms {
        Err(viz_query::Error::Window {
            asked_s: window_ms / 1000,
            kept_s: kept_ms / 1000,
        })
    } else {
        Ok(())
    }
}

async fn tap(State(api): State<Api>, request: Parameters<TapRequest>) -> Result<Response, Rejection> {
    let Query(request) = request?;
    let Some(taps) = &api.taps else {
        let reason = format!(
            "on a cluster, taps go through the API server, which authenticates the user: POST to {}",
            cluster::tap_path(&request.resource, request.namespace.as_deref().unwrap_or("NAMESPACE"))
        );
        return Err(Rejection(StatusCode::FORBIDDEN, reason));
    };
    taps.start(&request, tap::Encoding::Lines)
}

async fn pods(State(api): State<Api>) -> Response {
    let (objects, now) = (api.telemetry.objects(), api.telemetry.now_ms());
    let window = api.telemetry.window();
    let row = |pod: &viz_query::Pod| {
        let scrapes = window.state(&pod.key);
        PodRow {
            namespace: pod.key.namespace.to_string(),
            name: pod.key.name.to_string(),
            ip: pod.ip,
            owner: pod.owners.last().map(|(kind, name)| format!("{kind}/{name}")),
            status: pod.phase.clone(),
            ready: pod.ready,
            meshed: pod.meshed,
            scrape_age_ms: scrapes
                .as_ref()
                .and_then(|s| s.last_ms)
                .map(|at| now.saturating_sub(at)),
            scrape_error: scrapes.and_then(|s| s.error),
        }
    };
    let mut rows: Vec<PodRow> = objects.pods.iter().map(|pod| row(pod)).collect();
    rows.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    let source = viz_api::Source {
        scrape_interval_ms: 0,
        ..window.source(now, api.telemetry.window_max_ms())
    };
    Json(Answer { rows, source }).into_response()
}

async fn proxy_metrics(State(api): State<Api>, request: Parameters<ProxyMetricsRequest>) -> Result<String, Rejection> {
    let Query(ProxyMetricsRequest { namespace, pod: name }) = request?;
    let objects = api.telemetry.objects();
    let pod = objects
        .pods
        .iter()
        .find(|p| *p.key.namespace == *namespace && *p.key.name == *name);
    let pod = pod.ok_or_else(|| Rejection(StatusCode::NOT_FOUND, format!("pod {namespace}/{name} not found")))?;
    let address = pod.metrics_addr();
    let address = address.ok_or_else(|| {
        Rejection(
            StatusCode::NOT_FOUND,
            format!("pod {namespace}/{name} has no proxy yet"),
        )
    })?;
    let metrics = api.telemetry.fetcher.metrics(address, api.telemetry.timeout()).await;
    metrics.map_err(|e| {
        Rejection(
            StatusCode::BAD_GATEWAY,
            format!("cannot fetch the metrics of {namespace}/{name}: {e}"),
        )
    })
}
