//! Filters of rules and backends, on every kind of connection to an endpoint.

use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use proxy_http::Body;
use proxy_model::{
    limits,
    outbound::{Action, Distribution},
    route::{
        Filter, HeaderModifier, HttpMatch, Mirror, PathMatch, PathModifier, Ratio, Redirect, Rewrite, Rule, Timeouts,
    },
};

use super::support::*;

fn sets(name: &'static str, value: &'static str) -> HeaderModifier {
    HeaderModifier {
        set: vec![(HeaderName::from_static(name), HeaderValue::from_static(value))],
        ..HeaderModifier::default()
    }
}

/// Rule for what is below `/old`.
fn rule<M>(matches: Vec<M>, filters: Vec<Filter>, of_backend: Vec<Filter>) -> Rule<M, Action> {
    let mut to = distribution(&[(SERVICE, 1)]);
    if let Distribution::RandomAvailable(backends) = &mut to {
        backends[0].0.filters = of_backend;
    }
    Rule {
        matches,
        filters,
        action: Action {
            distribution: to,
            timeouts: Timeouts::default(),
            retry: None,
            allow_l5d_request_headers: false,
        },
    }
}

fn below_old() -> Vec<HttpMatch> {
    vec![HttpMatch {
        path: Some(PathMatch::Prefix("/old".into())),
        ..HttpMatch::default()
    }]
}

/// Target and host of requests that arrived.
type Arrived = Seen<(String, Option<HeaderValue>)>;

async fn sidecar(mesh: &Mesh) -> (Sidecar, Arrived) {
    let seen: Arrived = Rc::new(RefCell::default());
    let log = seen.clone();
    let sidecar = mesh
        .web(move |request| {
            let host = request.headers().get("host").cloned();
            log.borrow_mut().push((request.uri().to_string(), host));
            async { Ok(Response::new(Body::Empty)) }
        })
        .await;
    (sidecar, seen)
}

#[test]
fn rewrites_of_rules_and_backends_act_on_every_connection() {
    run(async || {
        let rewrite = Filter::Rewrite(Rewrite {
            host: Some("api.example".into()),
            path: Some(PathModifier::Prefix("/new".into())),
        });
        for (own, of_backend) in [(vec![rewrite.clone()], vec![]), (vec![], vec![rewrite])] {
            let mesh = Mesh::new();
            let (sidecar, seen) = sidecar(&mesh).await;
            mesh.rule(rule(below_old(), own, of_backend));
            mesh.script.endpoints(SERVICE, [sidecar.endpoint.clone()]);
            let mut http1 = mesh.http1().await;
            http1.send(&mut get("/old/a?b")).await.expect("a response");
            let mut http2 = mesh.http2().await;
            let mut native = Request::get("http://web.ns/old").body(Body::Empty).expect("valid");
            http2.send(&mut native).await.expect("a response");
            let host = HeaderValue::from_static("api.example");
            assert_eq!(
                *seen.borrow(),
                [
                    ("http://api.example/new/a?b".to_owned(), Some(host)),
                    ("http://api.example/new".to_owned(), None),
                ]
            );

            let plain: Arrived = Rc::default();
            let log = plain.clone();
            let endpoint = mesh
                .plain(move |request| {
                    let host = request.headers().get("host").cloned();
                    log.borrow_mut().push((request.uri().to_string(), host));
                })
                .await;
            mesh.script.endpoints(SERVICE, [endpoint]);
            let mut http1 = mesh.http1().await;
            while plain.borrow().is_empty() {
                http1.send(&mut get("/old/")).await.expect("a response");
            }
            let host = HeaderValue::from_static("api.example");
            assert_eq!(*plain.borrow(), [("/new/".to_owned(), Some(host))]);
        }
    });
}

#[test]
fn a_redirect_answers_except_a_request_that_is_there_already() {
    run(async || {
        let mesh = Mesh::new();
        let (sidecar, seen) = sidecar(&mesh).await;
        let to_login = Redirect {
            path: Some(PathModifier::Full("/login".into())),
            status: Some(302),
            ..Redirect::default()
        };
        mesh.rule(rule(vec![], vec![Filter::Redirect(to_login)], vec![]));
        mesh.script.endpoints(SERVICE, [sidecar.endpoint.clone()]);
        let mut http = mesh.http1().await;
        let response = http.send(&mut get("/")).await.expect("a response");
        assert_eq!(
            (response.status().as_u16(), &response.headers()["location"]),
            (302, &HeaderValue::from_static("http://web.ns/login"))
        );
        let response = http.send(&mut get("/login")).await.expect("a response");
        assert_eq!((response.status().as_u16(), seen.borrow().len()), (200, 1));
    });
}

#[test]
fn response_headers_of_grpc_routes_and_their_backends_act() {
    run(async || {
        let mesh = Mesh::new();
        let (sidecar, seen) = sidecar(&mesh).await;
        let own = vec![
            Filter::RequestHeaders(sets("host", "web.ns")),
            Filter::ResponseHeaders(sets("x-rule", "1")),
        ];
        let of_backend = vec![Filter::ResponseHeaders(sets("x-backend", "1"))];
        mesh.grpc_rule(rule(vec![], own, of_backend));
        mesh.script.endpoints(SERVICE, [sidecar.endpoint.clone()]);
        let mut http = mesh.http2().await;
        let call = Request::post("http://web.ns/echo.Echo/Say").header("content-type", "application/grpc");
        let response = http
            .send(&mut call.body(Body::Empty).expect("valid"))
            .await
            .expect("a response");
        assert_eq!((response.status().as_u16(), seen.borrow().len()), (200, 1));
        let headers = response.headers();
        assert_eq!(
            (headers.get("grpc-status"), &headers["x-rule"], &headers["x-backend"]),
            (None, &HeaderValue::from_static("1"), &HeaderValue::from_static("1"))
        );
    });
}

/// Service that gets the copies.
const MIRROR: &str = "mirror.ns.svc.cluster.local:80";

fn mirror(ratio: Ratio) -> Filter {
    let backend = distribution(&[(MIRROR, 1)])
        .backend(0)
        .expect("a backend")
        .backend
        .clone();
    Filter::Mirror(Mirror { backend, ratio })
}

/// Waits until the copies have come to an end.
async fn copies(mesh: &Mesh, outcome: &str, count: u64) {
    let label = format!("outcome=\"{outcome}\"");
    while mesh.count("mesh_mirrored_requests_total", &[&label]) < count {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(mesh.count("mesh_mirrored_requests_total", &[&label]), count);
}

#[test]
fn copies_are_whole_marked_and_counted() {
    run(async || {
        let mesh = Mesh::new();
        let (primary, hits) = mesh.text("primary").await;
        let seen: Seen<(String, Option<HeaderValue>, String)> = Rc::default();
        let log = seen.clone();
        let shadow = mesh
            .web(move |request| {
                let log = log.clone();
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.expect("a body").to_bytes();
                    let mark = head.headers.get("mesh-mirrored").cloned();
                    let text = String::from_utf8(body.to_vec()).expect("text");
                    log.borrow_mut().push((head.uri.path().to_owned(), mark, text));
                    Ok(Response::builder().status(503).body(Body::Empty).expect("valid"))
                }
            })
            .await;
        mesh.rule(rule(vec![], vec![mirror(Ratio::ALL)], vec![]));
        mesh.script.endpoints(SERVICE, [primary.endpoint.clone()]);
        mesh.script.endpoints(MIRROR, [shadow.endpoint.clone()]);
        let mut http = mesh.http1().await;
        for request in [&mut get("/a"), &mut post("/b", "hello")] {
            let response = http.send(request).await.expect("a response");
            assert_eq!(read(response).await, (StatusCode::OK, "primary".to_owned()));
        }
        copies(&mesh, "answered", 2).await;
        let mark = Some(HeaderValue::from_static("true"));
        let mut arrived = seen.borrow().clone();
        arrived.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(
            arrived,
            [
                ("/a".to_owned(), mark.clone(), String::new()),
                ("/b".to_owned(), mark, "hello".to_owned())
            ]
        );
        assert_eq!(hits.get(), 2);
        let statuses = |backend| mesh.count("outbound_http_route_backend_response_statuses_total", &[backend]);
        assert_eq!(
            [statuses("backend_name=\"web\""), statuses("backend_name=\"mirror\"")],
            [2, 2]
        );
        let of_route = mesh.count("outbound_http_route_request_statuses_total", &["http_status=\"200\""]);
        assert_eq!(
            (of_route, mesh.count("outbound_http_route_request_statuses_total", &[])),
            (2, 2)
        );

        // A body that is not known to its end is not copied.
        let part = http_body_util::StreamBody::new(futures_util::stream::pending::<
            Result<http_body::Frame<bytes::Bytes>, proxy_http::Error>,
        >());
        let mut endless = Request::post("/c").header("host", "web.ns");
        endless = endless.header("transfer-encoding", "chunked");
        let mut endless = endless.body(Body::boxed(part)).expect("valid");
        let response = http.send(&mut endless).await.expect("a response");
        assert_eq!(response.status(), StatusCode::OK);
        copies(&mesh, "incomplete", 1).await;
        assert_eq!(seen.borrow().len(), 2);
    });
}

#[test]
fn a_mirror_that_hangs_neither_delays_requests_nor_gets_more_than_its_limit() {
    run(async || {
        let mesh = Mesh::new();
        let (primary, hits) = mesh.text("primary").await;
        let (shadow, copied) = mesh.hung().await;
        mesh.rule(rule(vec![], vec![mirror(Ratio::ALL)], vec![]));
        mesh.script.endpoints(SERVICE, [primary.endpoint.clone()]);
        mesh.script.endpoints(MIRROR, [shadow.endpoint.clone()]);
        let mut http = mesh.http2().await;
        let (limit, more) = (limits::MIRRORED_REQUESTS.value, 10);
        let started = Instant::now();
        for _ in 0..limit + more {
            let mut request = Request::get("http://web.ns/").body(Body::Empty).expect("valid");
            let response = http.send(&mut request).await.expect("a response");
            let body = response.into_body().collect().await.expect("a whole body");
            assert_eq!(body.to_bytes(), "primary");
        }
        assert!(
            started.elapsed() < limits::MIRRORED_TIME.value,
            "none waited for a copy"
        );
        assert_eq!(hits.get(), limit + more);
        copies(&mesh, "refused", more as u64).await;
        assert_eq!(
            mesh.count("mesh_limit_refused_total", &["limit=\"MIRRORED_REQUESTS\""]),
            more as u64
        );
        while copied.get() < limit {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(copied.get(), limit);
    });
}

#[test]
fn a_mirror_gets_its_share() {
    run(async || {
        let mesh = Mesh::new();
        let (primary, _) = mesh.text("primary").await;
        let (shadow, copied) = mesh.text("shadow").await;
        let quarter = Ratio {
            numerator: 1,
            denominator: 4,
        };
        mesh.rule(rule(vec![], vec![mirror(quarter)], vec![]));
        mesh.script.endpoints(SERVICE, [primary.endpoint.clone()]);
        mesh.script.endpoints(MIRROR, [shadow.endpoint.clone()]);
        let mut http = mesh.http1().await;
        for _ in 0..800 {
            read(http.send(&mut get("/")).await.expect("a response")).await;
        }
        // Six standard deviations; the last may be on their way.
        assert!((120..=273).contains(&copied.get()), "{} of 800", copied.get());
    });
}
