//! Profiles: targets, routes, retries within the budget, timeouts.

use std::{cell::Cell, collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Response, StatusCode};
use proxy_http::Body;
use proxy_model::{
    ClientPolicy, ClientProtocol, Meta, OutboundTarget, Profile,
    outbound::{Http, Opaque},
    profile::{ProfileRoute, RequestMatch, RetryBudget, Target},
    route::Pattern,
};

use super::support::*;

fn profile(mesh: &Mesh, profile: Profile) {
    let protocol = ClientProtocol::Detect {
        timeout: Duration::from_secs(10),
        http1: Http::default(),
        http2: Http::default(),
        opaque: Opaque::default(),
    };
    let meta = Meta::resource("core", "Service", "ns", "web").with_port(80);
    let profile = Profile {
        fully_qualified_name: "web.ns.svc.cluster.local".to_owned(),
        ..profile
    };
    mesh.script.outbound(
        &OutboundTarget::Addr(WEB),
        ClientPolicy {
            meta,
            protocol,
            targets: None,
        },
        Some(profile),
    );
}

pub(super) fn route(path: &str, timeout: Option<Duration>) -> ProfileRoute {
    ProfileRoute {
        condition: Some(RequestMatch::Path(Pattern::anchored(path).expect("valid"))),
        response_classes: Vec::new(),
        labels: Arc::new(BTreeMap::from([("route".to_owned(), format!("GET {path}"))])),
        is_retryable: timeout.is_none(),
        timeout,
        retry_budget: None,
    }
}

#[test]
fn splits_between_targets_and_sends_the_canonical_name() {
    run(async || {
        let mesh = Mesh::new();
        let canonical: Seen<String> = Rc::default();
        let log = canonical.clone();
        let v1 = mesh
            .web(move |request| {
                let name = request.headers()["l5d-dst-canonical"]
                    .to_str()
                    .expect("text")
                    .to_owned();
                log.borrow_mut().push(name);
                async { Ok(Response::new(Body::Full(Bytes::from_static(b"v1")))) }
            })
            .await;
        let (v2, hits) = mesh.text("v2").await;
        mesh.script
            .endpoints("v1.ns.svc.cluster.local:80", [v1.endpoint.clone()]);
        mesh.script
            .endpoints("v2.ns.svc.cluster.local:80", [v2.endpoint.clone()]);
        let target = |name: &str, weight| Target {
            authority: format!("{name}.ns.svc.cluster.local:80").parse().expect("valid"),
            weight,
            backend: None,
        };
        profile(
            &mesh,
            Profile {
                targets: vec![target("v1", 1), target("v2", 1)],
                ..Profile::default()
            },
        );
        let mut http = mesh.http1().await;
        for _ in 0..100 {
            assert_eq!(
                read(http.send(&mut get("/")).await.expect("a response")).await.0,
                StatusCode::OK
            );
        }
        assert!((20..80).contains(&hits.get()), "{}", hits.get());
        assert!(
            canonical
                .borrow()
                .iter()
                .all(|name| name == "web.ns.svc.cluster.local:80")
        );
        let dst = "dst=\"web.ns.svc.cluster.local:80\"";
        assert_eq!(mesh.count("route_request_total", &["direction=\"outbound\"", dst]), 100);
        assert_eq!(
            mesh.count("response_total", &["authority=\"v2.ns.svc.cluster.local\""]),
            hits.get() as u64
        );
        profile(
            &mesh,
            Profile {
                targets: vec![target("v1", 1), target("v2", 0)],
                ..Profile::default()
            },
        );
        for _ in 0..50 {
            assert_eq!(read(http.send(&mut get("/")).await.expect("a response")).await.1, "v1");
        }
    });
}

#[test]
fn retries_failures_within_the_budget() {
    run(async || {
        let mesh = Mesh::new();
        let tries = Rc::new(Cell::new(0_u64));
        let counted = tries.clone();
        let sidecar = mesh
            .web(move |_| {
                counted.set(counted.get() + 1);
                async { Ok(Response::builder().status(500).body(Body::Empty).expect("valid")) }
            })
            .await;
        let budget = RetryBudget {
            ratio: 0.0,
            min_per_second: 1,
            ttl: Some(Duration::from_secs(3)),
        };
        let routes = vec![route("/r", None)];
        profile(
            &mesh,
            Profile {
                routes,
                retry_budget: Some(budget),
                ..Profile::default()
            },
        );
        mesh.script.endpoints(SERVICE, [sidecar.endpoint.clone()]);
        let mut http = mesh.http1().await;
        for _ in 0..2 {
            let response = http.send(&mut post("/r", "body")).await.expect("a response");
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        }
        // The budget holds three retries; the first request takes all of them.
        assert_eq!(tries.get(), 5);
        let labels = ["rt_route=\"GET /r\""];
        assert_eq!(mesh.count("route_response_total", &labels), 2);
        assert_eq!(mesh.count("route_actual_response_total", &labels), 5);
        assert_eq!(mesh.count("route_retryable_total", &["skipped=\"no_budget\""]), 2);
        assert_eq!(mesh.count("route_retryable_total", &labels), 5);
        assert_eq!(mesh.count("response_total", &["status_code=\"500\""]), 5);
    });
}

#[test]
fn answers_504_and_closes_after_a_route_timeout() {
    run(async || {
        let mesh = Mesh::new();
        let sidecar = mesh
            .web(|_| async {
                tokio::time::sleep(Duration::from_secs(20)).await;
                Ok(Response::new(Body::Empty))
            })
            .await;
        profile(
            &mesh,
            Profile {
                routes: vec![route("/t", Some(Duration::from_millis(80)))],
                ..Profile::default()
            },
        );
        mesh.script.endpoints(SERVICE, [sidecar.endpoint.clone()]);
        let mut http = mesh.http1().await;
        let response = http.send(&mut get("/t")).await.expect("a response");
        assert_eq!(
            (response.status(), response.headers()["connection"].as_bytes()),
            (StatusCode::GATEWAY_TIMEOUT, &b"close"[..])
        );
        let labels = [
            "rt_route=\"GET /t\"",
            "status_code=\"504\"",
            "classification=\"failure\"",
        ];
        assert_eq!(mesh.count("route_response_total", &labels), 1);
    });
}

#[test]
fn retries_a_request_whose_stream_breaks() {
    run(async || {
        let mesh = Mesh::new();
        let tries = Rc::new(Cell::new(0));
        let counted = tries.clone();
        let sidecar = mesh
            .web(move |_| {
                counted.set(counted.get() + 1);
                let is_first = counted.get() == 1;
                async move {
                    if is_first {
                        return Err(proxy_http::Error::reset(h2::Reason::INTERNAL_ERROR));
                    }
                    Ok(Response::new(Body::Empty))
                }
            })
            .await;
        let budget = RetryBudget {
            ratio: 0.0,
            min_per_second: 1,
            ttl: Some(Duration::from_secs(3)),
        };
        profile(
            &mesh,
            Profile {
                routes: vec![route("/r", None)],
                retry_budget: Some(budget),
                ..Profile::default()
            },
        );
        mesh.script.endpoints(SERVICE, [sidecar.endpoint.clone()]);
        let mut http = mesh.http1().await;
        let response = http.send(&mut post("/r", "body")).await.expect("a response");
        assert_eq!((response.status(), tries.get()), (StatusCode::OK, 2));
    });
}
