//! Filters of rules and backends, on every kind of connection to an endpoint.

use std::{cell::RefCell, rc::Rc};

use http::{HeaderName, HeaderValue, Request, Response};
use proxy_http::Body;
use proxy_model::{
    outbound::{Action, Distribution},
    route::{Filter, HeaderModifier, HttpMatch, PathMatch, PathModifier, Redirect, Rewrite, Rule, Timeouts},
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
