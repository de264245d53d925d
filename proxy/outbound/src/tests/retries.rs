//! Retries by policy: what is retried, within which time, and how often.

use std::{cell::Cell, rc::Rc, sync::Arc, time::Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use proxy_http::Body;
use proxy_model::{
    Backend, Endpoint, Meta,
    outbound::{Action, Dispatch, Distribution, Ejection, FailureAccrual, RouteBackend},
    route::{Backoff, GrpcRetry, Retry, Timeouts},
};

use super::{
    outliers::{MS, answering, consecutive, get_by},
    support::*,
};

pub(super) fn retry(max_retries: u16) -> Retry {
    Retry {
        max_retries,
        max_request_bytes: 1024,
        statuses: vec![(500, 599)],
        grpc: GrpcRetry {
            unavailable: true,
            ..GrpcRetry::default()
        },
        timeout: None,
        backoff: Some(Backoff {
            min: MS,
            max: MS,
            jitter: 0.0,
            respect_retry_after_hint: false,
        }),
    }
}

fn retrying(mesh: &Mesh, timeouts: Timeouts, retry: Retry) {
    mesh.action(Action {
        distribution: distribution(&[(SERVICE, 1)]),
        timeouts,
        retry: Some(retry),
        allow_l5d_request_headers: false,
    });
}

#[test]
fn an_attempt_that_hangs_is_retried_and_the_last_one_is_limited_too() {
    run(async || {
        let mesh = Mesh::new();
        mesh.accrual.set(Some(consecutive(20_000 * MS)));
        let (hung, hits) = mesh.hung().await;
        retrying(
            &mesh,
            Timeouts::default(),
            Retry {
                timeout: Some(100 * MS),
                ..retry(2)
            },
        );
        mesh.script.endpoints(SERVICE, [hung.endpoint.clone()]);
        let mut http1 = mesh.http1().await;
        let began = Instant::now();
        let response = http1.send(&mut get("/")).await.expect("a response");
        assert_eq!((response.status(), hits.get()), (StatusCode::GATEWAY_TIMEOUT, 3));
        let took = began.elapsed();
        assert!((300 * MS..1000 * MS).contains(&took), "{took:?}");
        assert_eq!(
            mesh.count("response_total", &["error=\"timeout\"", "classification=\"failure\""]),
            3
        );
    });
}

#[test]
fn the_timeout_of_an_attempt_starts_when_the_request_is_sent() {
    run(async || {
        let mesh = Mesh::new();
        let hits = Rc::new(Cell::new(0));
        let counted = hits.clone();
        let sidecar = mesh
            .web(move |request: Request<Body>| {
                counted.set(counted.get() + 1);
                async {
                    Ok(Response::new(Body::Full(
                        request.into_body().collect().await?.to_bytes(),
                    )))
                }
            })
            .await;
        retrying(
            &mesh,
            Timeouts::default(),
            Retry {
                timeout: Some(150 * MS),
                ..retry(1)
            },
        );
        mesh.script.endpoints(SERVICE, [sidecar.endpoint.clone()]);
        let mut http2 = mesh.http2().await;
        let frames = futures_util::stream::unfold(0, |sent| async move {
            tokio::time::sleep(100 * MS).await;
            (sent < 4).then(|| (Ok(Frame::data(Bytes::from_static(b"slow"))), sent + 1))
        });
        let body = StreamBody::new(Box::pin(frames));
        let mut request = Request::post("http://web.ns/").body(Body::boxed(body)).expect("valid");
        let response = http2.send(&mut request).await.expect("a response");
        assert_eq!((response.status(), hits.get()), (StatusCode::OK, 1));
    });
}

#[test]
fn a_connection_that_breaks_under_a_request_is_retried_by_policy() {
    run(async || {
        let mesh = Mesh::new();
        let tries = Rc::new(Cell::new(0));
        let counted = tries.clone();
        // The first two requests lose their stream without a reason that says they were not processed.
        let sidecar = mesh
            .web(move |_| {
                counted.set(counted.get() + 1);
                let result = if counted.get() <= 2 {
                    Err(proxy_http::Error::reset(h2::Reason::INTERNAL_ERROR))
                } else {
                    Ok(Response::new(Body::Empty))
                };
                async move { result }
            })
            .await;
        for (max_retries, status) in [(1, StatusCode::BAD_GATEWAY), (2, StatusCode::OK)] {
            tries.set(0);
            retrying(&mesh, Timeouts::default(), retry(max_retries));
            mesh.script.endpoints(SERVICE, [sidecar.endpoint.clone()]);
            let mut http1 = mesh.http1().await;
            let response = http1.send(&mut post("/", "once more")).await.expect("a response");
            assert_eq!((response.status(), tries.get()), (status, usize::from(max_retries) + 1));
        }
        // A client of HTTP/2 sees the reset itself.
        tries.set(0);
        let mut http2 = mesh.http2().await;
        let mut request = Request::get("http://web.ns/").body(Body::Empty).expect("valid");
        assert!(http2.send(&mut request).await.is_err());
        assert_eq!(tries.get(), 1);
    });
}

#[test]
fn retries_do_not_multiply_the_load_of_a_service_that_fails() {
    run(async || {
        let mesh = Mesh::new();
        let status = Rc::new(Cell::new(500));
        let (sidecar, hits) = answering(&mesh, &status, &[]).await;
        retrying(&mesh, Timeouts::default(), retry(3));
        mesh.script.endpoints(SERVICE, [sidecar.endpoint.clone()]);
        let mut http2 = mesh.http2().await;
        const REQUESTS: usize = 500;
        for _ in 0..REQUESTS {
            let mut request = Request::get("http://web.ns/").body(Body::Empty).expect("valid");
            let response = http2.send(&mut request).await.expect("a response");
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        }
        // A fifth of the requests, and 10 per second over the 10 seconds of the window.
        let retries = hits.get() - REQUESTS;
        assert!((150..=REQUESTS / 5 + 100 + 1).contains(&retries), "{retries} retries");
        assert!(mesh.count("outbound_http_route_retry_limit_exceeded_total", &[]) >= 300);
    });
}

#[test]
fn a_retry_is_not_sent_when_no_endpoint_is_ready() {
    run(async || {
        let mesh = Mesh::new();
        let FailureAccrual::Consecutive { backoff, .. } = consecutive(20_000 * MS) else {
            unreachable!("consecutive")
        };
        mesh.accrual.set(Some(FailureAccrual::Consecutive {
            max_failures: 2,
            backoff,
            ejection: Ejection::default(),
        }));
        let status = Rc::new(Cell::new(500));
        let (sidecar, hits) = answering(&mesh, &status, &[]).await;
        retrying(&mesh, Timeouts::default(), retry(5));
        mesh.script.endpoints(SERVICE, [sidecar.endpoint.clone()]);
        let began = Instant::now();
        assert_eq!(get_by(&mesh, &mesh.worker).await, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(hits.get(), 2);
        assert!(began.elapsed() < 300 * MS, "{:?}", began.elapsed());
        assert_eq!(mesh.count("outbound_http_route_retry_overflow_total", &[]), 1);
    });
}

#[test]
fn a_refused_connect_is_unavailable_to_retries_of_grpc() {
    run(async || {
        let mesh = Mesh::new();
        let mut refused = mesh.plain(|_| {}).await.addr;
        refused.set_port(1);
        let backend = Backend {
            meta: Meta::default_named("web"),
            dispatch: Some(Dispatch::Forward(Arc::new(Endpoint::bare(refused)))),
            queue: None,
        };
        mesh.action(Action {
            distribution: Distribution::FirstAvailable(vec![RouteBackend {
                backend: Arc::new(backend),
                filters: Vec::new(),
            }]),
            timeouts: Timeouts::default(),
            retry: Some(Retry {
                statuses: Vec::new(),
                ..retry(2)
            }),
            allow_l5d_request_headers: false,
        });
        let mut http2 = mesh.http2().await;
        for (content_type, retries) in [("text/plain", 0), ("application/grpc", 2)] {
            let mut request = Request::post("http://web.ns/a.B/C")
                .header("content-type", content_type)
                .body(Body::Empty)
                .expect("valid");
            let response = http2.send(&mut request).await.expect("a response");
            let grpc = response.headers().get("grpc-status").map(|code| code.as_bytes());
            assert_eq!(grpc, (retries > 0).then_some(&b"14"[..]), "{content_type}");
            assert_eq!(mesh.count("outbound_http_route_retry_requests_total", &[]), retries);
        }
    });
}

#[test]
fn a_retry_goes_to_another_endpoint() {
    run(async || {
        let mesh = Mesh::new();
        let (bad, good) = (Rc::new(Cell::new(503)), Rc::new(Cell::new(200)));
        let (failing, hits) = answering(&mesh, &bad, &[]).await;
        let (fine, _) = answering(&mesh, &good, &[]).await;
        let (hung, hung_hits) = mesh.hung().await;
        let limits = Retry {
            timeout: Some(200 * MS),
            ..retry(2)
        };
        retrying(&mesh, Timeouts::default(), limits);
        let endpoints = [&failing, &fine, &hung].map(|sidecar| sidecar.endpoint.clone());
        mesh.script.endpoints(SERVICE, endpoints);
        let mut http2 = mesh.http2().await;
        for _ in 0..60 {
            let mut request = Request::get("http://web.ns/").body(Body::Empty).expect("valid");
            let response = http2.send(&mut request).await.expect("a response");
            assert_eq!(response.status(), StatusCode::OK);
        }
        assert!(hits.get() > 0 && hung_hits.get() > 0, "both were tried");
    });
}
