//! Routes of a profile over the routes of a policy that has its targets: all that either states acts.

use std::{cell::Cell, rc::Rc, time::Instant};

use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use proxy_http::Body;
use proxy_model::{
    ClientPolicy, ClientProtocol, Meta, OutboundTarget, Profile,
    outbound::{Action, Distribution, Http, HttpRoute, Opaque},
    profile::{ProfileRoute, ResponseClass, ResponseMatch, RetryBudget, Target},
    route::{Filter, HeaderMatch, HeaderModifier, HeaderValueMatch, HttpMatch, Rule, Timeouts},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    outliers::{MS, answering, consecutive},
    profiles::route,
    retries::retry,
    support::*,
};

const V1: &str = "v1.ns.svc.cluster.local:80";
const V2: &str = "v2.ns.svc.cluster.local:80";
const BETA: &str = "beta.ns.svc.cluster.local:80";

/// Rule for requests with the header `x-beta`, or for all.
fn rule(only_beta: bool, distribution: Distribution) -> Rule<HttpMatch, Action> {
    let header = HeaderMatch {
        name: HeaderName::from_static("x-beta"),
        value: HeaderValueMatch::Exact(HeaderValue::from_static("yes")),
    };
    Rule {
        matches: vec![HttpMatch {
            headers: only_beta.then_some(header).into_iter().collect(),
            ..HttpMatch::default()
        }],
        filters: vec![],
        action: Action {
            distribution,
            timeouts: Timeouts::default(),
            retry: None,
            allow_l5d_request_headers: false,
        },
    }
}

fn target(path: &str, weight: u32) -> Target {
    Target {
        authority: path.parse().expect("valid"),
        weight,
        backend: None,
    }
}

/// Gives [`WEB`] a route with these rules, in a policy that has the targets of the profile.
fn include(mesh: &Mesh, rules: Vec<Rule<HttpMatch, Action>>, targets: Vec<Target>, profile: Profile) {
    let http = Http {
        routes: vec![HttpRoute {
            meta: Meta::resource("gateway.networking.k8s.io", "HTTPRoute", "ns", "ab"),
            hosts: vec![],
            rules,
            authorizations: vec![],
        }],
        failure_accrual: mesh.accrual.get(),
    };
    let policy = ClientPolicy {
        meta: Meta::resource("core", "Service", "ns", "web").with_port(80),
        protocol: ClientProtocol::Detect {
            timeout: 10_000 * MS,
            http1: http.clone(),
            http2: http,
            opaque: Opaque::default(),
        },
        targets: Some([(SERVICE.into(), targets)].into()),
    };
    let profile = Profile {
        fully_qualified_name: "web.ns.svc.cluster.local".to_owned(),
        ..profile
    };
    mesh.script.outbound(&OutboundTarget::Addr(WEB), policy, Some(profile));
}

fn budget(min_per_second: u32) -> RetryBudget {
    RetryBudget {
        ratio: 0.0,
        min_per_second,
        ttl: Some(3_000 * MS),
    }
}

/// Returns the status of a request, and the time to it.
async fn status(mesh: &Mesh, path: &str) -> (StatusCode, std::time::Duration) {
    let mut http = mesh.http1().await;
    let began = Instant::now();
    let response = http.send(&mut get(path)).await.expect("a response");
    (response.status(), began.elapsed())
}

#[test]
fn a_route_by_header_a_split_and_a_profile_act_together() {
    run(async || {
        let mesh = Mesh::new();
        let (v1, of_v1) = mesh.text("v1").await;
        let (v2, of_v2) = mesh.text("v2").await;
        let (beta, of_beta) = mesh.text("beta").await;
        for (path, sidecar) in [(V1, &v1), (V2, &v2), (BETA, &beta)] {
            mesh.script.endpoints(path, [sidecar.endpoint.clone()]);
        }
        let mut marked = rule(true, distribution(&[(BETA, 1)]));
        marked.filters = vec![Filter::ResponseHeaders(HeaderModifier {
            set: vec![(HeaderName::from_static("x-by"), HeaderValue::from_static("ab"))],
            ..HeaderModifier::default()
        })];
        include(
            &mesh,
            vec![marked, rule(false, distribution(&[(SERVICE, 1)]))],
            vec![target(V1, 9), target(V2, 1)],
            Profile {
                routes: vec![route("/r.*", None)],
                // No request may get there: the targets are the policy's.
                targets: vec![target("gone.ns.svc.cluster.local:80", 1)],
                ..Profile::default()
            },
        );
        let mut http = mesh.http1().await;
        for i in 0..400 {
            let mut request = get(if i % 2 == 0 { "/r" } else { "/" });
            if i % 4 == 0 {
                request.headers_mut().insert("x-beta", HeaderValue::from_static("yes"));
            }
            let response = http.send(&mut request).await.expect("a response");
            assert_eq!(response.headers().contains_key("x-by"), i % 4 == 0);
            read(response).await;
        }
        assert_eq!((of_beta.get(), of_v1.get() + of_v2.get()), (100, 300));
        // 30 are expected; outside of 8 and 60 once in 10^5.
        assert!((8..60).contains(&of_v2.get()), "{}", of_v2.get());
        let dst = "dst=\"web.ns.svc.cluster.local:80\"";
        assert_eq!(mesh.count("route_response_total", &[dst]), 400);
        assert_eq!(mesh.count("route_response_total", &["rt_route=\"GET /r.*\""]), 200);
        let statuses = "outbound_http_route_request_statuses_total";
        assert_eq!(mesh.count(statuses, &["route_name=\"ab\""]), 400);
        assert_eq!(
            mesh.count("outbound_http_route_backend_requests_total", &["backend_name=\"beta\""]),
            100
        );
    });
}

#[test]
fn only_what_the_route_of_a_profile_states_replaces_the_policys() {
    run(async || {
        let mesh = Mesh::new();
        let (hung, _) = mesh.hung().await;
        mesh.script.endpoints(SERVICE, [hung.endpoint.clone()]);
        let mut all = rule(false, distribution(&[(SERVICE, 1)]));
        all.action.timeouts.request = Some(150 * MS);
        include(
            &mesh,
            vec![all],
            vec![],
            Profile {
                routes: vec![
                    route("/longer", Some(600 * MS)),
                    route("/shorter", Some(50 * MS)),
                    route("/silent", None),
                ],
                ..Profile::default()
            },
        );
        for (path, least, most) in [
            ("/longer", 600, 900),
            ("/shorter", 50, 149),
            ("/silent", 150, 450),
            ("/unnamed", 150, 450),
        ] {
            let (status, time) = status(&mesh, path).await;
            assert_eq!(status, StatusCode::GATEWAY_TIMEOUT, "{path}");
            assert!((least * MS..most * MS).contains(&time), "{path}: {time:?}");
        }
    });
}

#[test]
fn failures_by_the_classes_of_a_profile_are_retried_within_its_budget_and_open_breakers() {
    run(async || {
        let mesh = Mesh::new();
        mesh.accrual.set(Some(consecutive(20_000 * MS)));
        // Not a failure but for the profile.
        let failing = Rc::new(Cell::new(0));
        let counted = failing.clone();
        let bad = mesh
            .web(move |_| {
                counted.set(counted.get() + 1);
                async { Ok(Response::builder().status(404).body(Body::Empty).expect("valid")) }
            })
            .await;
        let (good, hits) = mesh.text("good").await;
        mesh.script
            .endpoints(SERVICE, [bad.endpoint.clone(), good.endpoint.clone()]);
        let not_found = ResponseClass {
            condition: Some(ResponseMatch::Status { min: 404, max: 404 }),
            is_failure: true,
        };
        let retried = ProfileRoute {
            response_classes: vec![not_found],
            ..route("/r", None)
        };
        include(
            &mesh,
            vec![rule(false, distribution(&[(SERVICE, 1)]))],
            vec![],
            Profile {
                routes: vec![retried],
                retry_budget: Some(budget(100)),
                ..Profile::default()
            },
        );
        let http2 = mesh.http2().await;
        let request = async || {
            let mut request = Request::get("http://web.ns/r").body(Body::Empty).expect("valid");
            let response = http2.clone().send(&mut request).await.expect("a response");
            assert_eq!(response.status(), StatusCode::OK, "retried");
        };
        // Concurrent, so that both endpoints get some.
        while mesh.count("mesh_breaker_ejected", &[]) == 0 {
            futures_util::future::join_all((0..10).map(|_| request())).await;
        }
        let (failed, arrived) = (failing.get(), hits.get());
        assert!(failed >= 7, "{failed}");
        for _ in 0..50 {
            request().await;
        }
        assert_eq!((failing.get(), hits.get()), (failed, arrived + 50), "ejected");
        let labels = ["status_code=\"404\""];
        assert_eq!(mesh.count("route_actual_response_total", &labels), failed as u64);
        assert_eq!(
            mesh.count("outbound_http_route_retry_requests_total", &[]),
            0,
            "not the policy's"
        );
    });
}

#[test]
fn retries_of_a_profile_keep_to_its_budget_and_to_the_limit_of_the_policy() {
    run(async || {
        for (by_policy, min_per_second, tries) in [
            // A budget of 3 s, as often as it pays; one retry by the policy's limit; no budget at all.
            (None, 1, 4),
            (Some(retry(1)), 100, 2),
            (Some(retry(9)), 0, 1),
        ] {
            let mesh = Mesh::new();
            let failing = Rc::new(Cell::new(500));
            let (sidecar, hits) = answering(&mesh, &failing, &[]).await;
            mesh.script.endpoints(SERVICE, [sidecar.endpoint.clone()]);
            let mut all = rule(false, distribution(&[(SERVICE, 1)]));
            let is_limited = by_policy.as_ref().is_some_and(|retry| retry.max_retries == 1);
            all.action.retry = by_policy;
            include(
                &mesh,
                vec![all],
                vec![],
                Profile {
                    routes: vec![route("/r", None)],
                    retry_budget: Some(budget(min_per_second)),
                    ..Profile::default()
                },
            );
            assert_eq!(status(&mesh, "/r").await.0, StatusCode::INTERNAL_SERVER_ERROR);
            assert_eq!(hits.get(), tries, "{min_per_second}");
            let limited = mesh.count("outbound_http_route_retry_limit_exceeded_total", &[]);
            let unpaid = mesh.count("route_retryable_total", &["skipped=\"no_budget\""]);
            assert_eq!(unpaid, u64::from(!is_limited), "{min_per_second}");
            assert_eq!(limited, u64::from(tries < 4), "{min_per_second}");
        }
    });
}

#[test]
fn the_policy_retries_where_the_profile_does_not() {
    run(async || {
        let mesh = Mesh::new();
        let failing = Rc::new(Cell::new(500));
        let (sidecar, hits) = answering(&mesh, &failing, &[]).await;
        mesh.script.endpoints(SERVICE, [sidecar.endpoint.clone()]);
        let mut all = rule(false, distribution(&[(SERVICE, 1)]));
        all.action.retry = Some(retry(2));
        include(
            &mesh,
            vec![all],
            vec![],
            Profile {
                routes: vec![route("/t", Some(5_000 * MS))],
                retry_budget: Some(budget(0)),
                ..Profile::default()
            },
        );
        assert_eq!(status(&mesh, "/t").await.0, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(hits.get(), 3);
        assert_eq!(mesh.count("outbound_http_route_retry_requests_total", &[]), 2);
        assert_eq!(mesh.count("route_retryable_total", &[]), 0);
    });
}

#[test]
fn opaque_connections_follow_the_targets_of_the_policy() {
    run(async || {
        let mesh = Mesh::new();
        let echo = mesh
            .sidecar(|_, mut io| async move {
                let mut bytes = [0; 5];
                io.read_exact(&mut bytes).await.expect("bytes");
                io.write_all(&bytes).await.expect("written");
            })
            .await;
        mesh.script.endpoints(V1, [echo.endpoint.clone()]);
        let rule = Rule {
            matches: vec![],
            filters: vec![],
            action: distribution(&[(SERVICE, 1)]),
        };
        let route = proxy_model::outbound::TcpRoute {
            meta: Meta::default_named("opaq"),
            snis: vec![],
            rules: vec![rule],
        };
        let policy = ClientPolicy {
            meta: Meta::resource("core", "Service", "ns", "web").with_port(80),
            protocol: ClientProtocol::Opaque(Opaque { routes: vec![route] }),
            targets: Some([(SERVICE.into(), vec![target(V1, 1)])].into()),
        };
        let profile = Profile {
            targets: vec![target("gone.ns.svc.cluster.local:80", 1)],
            ..Profile::default()
        };
        mesh.script.outbound(&OutboundTarget::Addr(WEB), policy, Some(profile));
        let mut socket = mesh.connect().await;
        socket.write_all(b"hello").await.expect("written");
        let mut bytes = [0; 5];
        socket.read_exact(&mut bytes).await.expect("the echo");
        assert_eq!(&bytes, b"hello");
    });
}
