//! Failures: unreachable endpoints, requests that never arrive, no ready endpoint, timeouts.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use proxy_http::{Body, headers::MESH_NEVER_ARRIVED};
use proxy_model::{
    Endpoint,
    outbound::Action,
    route::{Retry, Timeouts},
};

use super::support::*;

#[test]
fn skips_an_endpoint_that_is_down() {
    run(async || {
        let mesh = Mesh::new();
        let (alive, hits) = mesh.text("alive").await;
        let (dead, _) = mesh.text("dead").await;
        dead.kill();
        tokio::task::yield_now().await;
        mesh.service(&[&alive.endpoint, &dead.endpoint]);
        let mut http = mesh.http1().await;
        for _ in 0..50 {
            assert_eq!(
                read(http.send(&mut get("/")).await.expect("a response")).await.1,
                "alive"
            );
        }
        assert_eq!(hits.get(), 50);
        assert_eq!(mesh.count("response_total", &["classification=\"failure\""]), 0);
        // A new set takes effect on the open connection, and the old endpoint gets no more requests.
        let (other, others) = mesh.text("other").await;
        mesh.script.endpoints(SERVICE, [other.endpoint.clone()]);
        assert_eq!(
            read(http.send(&mut get("/")).await.expect("a response")).await.1,
            "other"
        );
        assert_eq!((hits.get(), others.get()), (50, 1));
    });
}

#[test]
fn resends_a_post_that_never_arrived_and_counts_it_once() {
    run(async || {
        for how in ["marked", "refused"] {
            let mesh = Mesh::new();
            let lost = Rc::new(Cell::new(0));
            let losing = lost.clone();
            let loser = mesh
                .web(move |_| {
                    losing.set(losing.get() + 1);
                    async move {
                        if how == "refused" {
                            return Err(proxy_http::Error::reset(h2::Reason::REFUSED_STREAM));
                        }
                        let response = Response::builder().status(502).header(MESH_NEVER_ARRIVED, "true");
                        Ok(response.body(Body::Empty).expect("valid"))
                    }
                })
                .await;
            let keeper = mesh
                .web(|request| async {
                    let body = request.into_body().collect().await?.to_bytes();
                    Ok(Response::new(Body::Full(body)))
                })
                .await;
            mesh.service(&[&loser.endpoint, &keeper.endpoint]);
            let mut http = mesh.http1().await;
            for _ in 0..40 {
                let response = http.send(&mut post("/", "precious")).await.expect("a response");
                assert_eq!(read(response).await, (StatusCode::OK, "precious".to_owned()), "{how}");
            }
            assert!(lost.get() > 0, "{how}: the loser was never picked");
            assert_eq!(mesh.count("request_total", &["direction=\"outbound\""]), 40, "{how}");
            assert_eq!(
                mesh.count("response_total", &["classification=\"success\""]),
                40,
                "{how}"
            );
            assert_eq!(mesh.count("mesh_never_arrived_resent_total", &[]), lost.get(), "{how}");
        }
    });
}

#[test]
fn does_not_resend_a_body_larger_than_the_replay_buffer() {
    run(async || {
        let mesh = Mesh::new();
        let loser = mesh
            .web(|request| async {
                let _ = request.into_body().collect().await?;
                let response = Response::builder().status(502).header(MESH_NEVER_ARRIVED, "true");
                Ok(response.body(Body::Empty).expect("valid"))
            })
            .await;
        mesh.service(&[&loser.endpoint]);
        let mut http = mesh.http1().await;
        let body = Body::Full(Bytes::from(vec![0; proxy_model::limits::REPLAY_BYTES.value + 1]));
        let mut request = Request::post("/").header("host", "web").body(body).expect("valid");
        let response = http.send(&mut request).await.expect("a response");
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        assert!(!response.headers().contains_key(MESH_NEVER_ARRIVED));
        assert_eq!(mesh.count("mesh_limit_refused_total", &["REPLAY_BYTES"]), 1);
        assert_eq!(mesh.count("response_total", &["status_code=\"502\""]), 1);
    });
}

#[test]
fn stops_resending_after_the_limit_and_counts_it() {
    run(async || {
        let mesh = Mesh::new();
        let attempts = Rc::new(Cell::new(0));
        let mut losers = Vec::new();
        for _ in 0..5 {
            let counted = attempts.clone();
            let loser = mesh
                .web(move |_| {
                    counted.set(counted.get() + 1);
                    let response = Response::builder().status(502).header(MESH_NEVER_ARRIVED, "true");
                    async move { Ok(response.body(Body::Empty).expect("valid")) }
                })
                .await;
            losers.push(loser);
        }
        mesh.service(&losers.iter().map(|loser| &loser.endpoint).collect::<Vec<_>>());
        let mut http = mesh.http1().await;
        let response = http.send(&mut get("/")).await.expect("a response");
        assert_eq!((response.status(), attempts.get()), (StatusCode::BAD_GATEWAY, 4));
        assert_eq!(mesh.count("mesh_limit_refused_total", &["NEVER_ARRIVED_ATTEMPTS"]), 1);
    });
}

#[test]
fn fails_fast_then_sheds_then_recovers() {
    run(async || {
        let mesh = Mesh::new();
        mesh.service(&[]);
        let mut http = mesh.http1().await;
        let began = Instant::now();
        let response = http.send(&mut get("/")).await.expect("a response");
        assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
        assert!(began.elapsed() >= Duration::from_millis(390), "{:?}", began.elapsed());
        let text = response.headers()["l5d-proxy-error"].to_str().expect("text").to_owned();
        assert!(text.ends_with("service in fail-fast"), "{text}");
        assert_eq!(response.headers()["connection"], "close");

        let mut http = mesh.http1().await;
        let shed = http.send(&mut get("/")).await.expect("a response");
        assert_eq!(shed.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(mesh.count("outbound_http_errors_total", &["error=\"failfast\""]), 1);
        assert_eq!(mesh.count("outbound_http_errors_total", &["error=\"loadshed\""]), 1);

        let (sidecar, _) = mesh.text("back").await;
        mesh.script.endpoints(SERVICE, [sidecar.endpoint.clone()]);
        let mut http = mesh.http1().await;
        assert_eq!(
            read(http.send(&mut get("/")).await.expect("a response")).await.1,
            "back"
        );
    });
}

#[test]
fn failfast_survives_a_policy_update() {
    run(async || {
        let mesh = Mesh::new();
        mesh.service(&[]);
        let mut http = mesh.http1().await;
        let response = http.send(&mut get("/")).await.expect("a response");
        assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);

        let timeouts = Timeouts {
            idle: Some(Duration::from_secs(60)),
            ..Timeouts::default()
        };
        mesh.policy(distribution(&[(SERVICE, 1)]), timeouts);
        let mut http = mesh.http1().await;
        let began = Instant::now();
        let shed = http.send(&mut get("/")).await.expect("a response");
        assert_eq!(
            shed.status(),
            StatusCode::SERVICE_UNAVAILABLE,
            "same backends, same state"
        );
        assert!(began.elapsed() < Duration::from_millis(300), "{:?}", began.elapsed());

        mesh.split(&[("other.ns.svc.cluster.local:80", 1)]);
        let mut http = mesh.http1().await;
        let response = http.send(&mut get("/")).await.expect("a response");
        assert_eq!(
            response.status(),
            StatusCode::GATEWAY_TIMEOUT,
            "other backends wait again"
        );
    });
}

#[test]
fn waits_for_endpoints_that_arrive_in_time() {
    run(async || {
        let mesh = Mesh::new();
        mesh.split(&[(SERVICE, 1)]);
        let mut http = mesh.http1().await;
        let (sidecar, _) = mesh.text("late").await;
        let late = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            mesh.script.endpoints(SERVICE, [sidecar.endpoint.clone()]);
        };
        let mut request = get("/");
        let (response, ()) = tokio::join!(http.send(&mut request), late);
        assert_eq!(read(response.expect("a response")).await.1, "late");
    });
}

#[test]
fn answers_504_without_an_answer_from_discovery() {
    run(async || {
        let mesh = Mesh::new();
        let mut http = mesh.http1().await;
        let response = http.send(&mut get("/")).await.expect("a response");
        assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    });
}

#[test]
fn fails_at_once_when_a_single_address_refuses() {
    run(async || {
        let mesh = Mesh::new();
        let endpoint = mesh.plain(|_| {}).await;
        let mut refused = endpoint.addr;
        refused.set_port(1);
        let target = proxy_model::OutboundTarget::Addr(WEB);
        mesh.script.forward(&target, Endpoint::bare(refused));
        let mut http = mesh.http1().await;
        let began = Instant::now();
        assert_eq!(
            http.send(&mut get("/")).await.expect("a response").status(),
            StatusCode::BAD_GATEWAY
        );
        assert!(began.elapsed() < Duration::from_millis(300));
    });
}

#[test]
fn enforces_the_identity_that_the_client_requires() {
    run(async || {
        let mesh = Mesh::new();
        let (sidecar, hits) = mesh.text("hi").await;
        mesh.service(&[&sidecar.endpoint]);
        let mut http = mesh.http1().await;
        let mut request = get("/");
        request
            .headers_mut()
            .insert("l5d-require-id", HeaderValue::from_static(WEB_ID));
        assert_eq!(
            http.send(&mut request).await.expect("a response").status(),
            StatusCode::OK
        );
        let mut request = get("/");
        request
            .headers_mut()
            .insert("l5d-require-id", HeaderValue::from_static("other.ns"));
        assert_eq!(
            http.send(&mut request).await.expect("a response").status(),
            StatusCode::BAD_GATEWAY
        );
        assert_eq!(hits.get(), 1);
        for invalid in [&b"not an identity"[..], b"", b"web.ns\xff", b"spiffe://"] {
            let mut http = mesh.http1().await;
            let mut request = get("/");
            let value = HeaderValue::from_bytes(invalid).expect("valid");
            request.headers_mut().insert("l5d-require-id", value);
            let response = http.send(&mut request).await.expect("a response");
            assert_eq!(response.status(), StatusCode::BAD_GATEWAY, "{invalid:?}");
        }
        let mut http = mesh.http1().await;
        let mut request = get("/");
        for id in [WEB_ID, "other.ns"] {
            request
                .headers_mut()
                .append("l5d-require-id", HeaderValue::from_static(id));
        }
        let response = http.send(&mut request).await.expect("a response");
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY, "two cannot both hold");
        assert_eq!(hits.get(), 1);
    });
}

#[test]
fn enforces_policy_timeouts() {
    run(async || {
        let mesh = Mesh::new();
        let sidecar = mesh
            .web(|_| async {
                tokio::time::sleep(Duration::from_secs(20)).await;
                Ok(Response::new(Body::Empty))
            })
            .await;
        let request = Some(Duration::from_millis(100));
        for timeouts in [
            Timeouts {
                request,
                ..Timeouts::default()
            },
            Timeouts {
                response: request,
                ..Timeouts::default()
            },
            Timeouts {
                idle: request,
                ..Timeouts::default()
            },
        ] {
            mesh.policy(distribution(&[(SERVICE, 1)]), timeouts);
            mesh.script.endpoints(SERVICE, [sidecar.endpoint.clone()]);
            let mut http = mesh.http1().await;
            let response = http.send(&mut get("/")).await.expect("a response");
            assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT, "{timeouts:?}");
            assert!(!response.headers().contains_key("connection"));
        }
    });
}

#[test]
fn retries_as_often_as_the_policy_allows() {
    run(async || {
        let mesh = Mesh::new();
        let tries = Rc::new(Cell::new(0));
        let counted = tries.clone();
        let sidecar = mesh
            .web(move |request| {
                counted.set(counted.get() + 1);
                let enough = counted.get() >= 3;
                async move {
                    let body = request.into_body().collect().await?.to_bytes();
                    let status = if enough { 200 } else { 503 };
                    Ok(Response::builder()
                        .status(status)
                        .body(Body::Full(body))
                        .expect("valid"))
                }
            })
            .await;
        let retry = Retry {
            max_retries: 2,
            max_request_bytes: 1024,
            statuses: vec![(500, 599)],
            grpc: Default::default(),
            timeout: None,
            backoff: None,
        };
        mesh.action(Action {
            distribution: distribution(&[(SERVICE, 1)]),
            timeouts: Timeouts::default(),
            retry: Some(retry),
            allow_l5d_request_headers: false,
        });
        mesh.script.endpoints(SERVICE, [sidecar.endpoint.clone()]);
        let mut http = mesh.http1().await;
        let (status, text) = read(http.send(&mut post("/", "again")).await.expect("a response")).await;
        assert_eq!((status, text.as_str(), tries.get()), (StatusCode::OK, "again", 3));
        assert_eq!(mesh.count("outbound_http_route_retry_requests_total", &[]), 2);
        assert_eq!(mesh.count("outbound_http_route_retry_successes_total", &[]), 1);
        assert_eq!(mesh.count("outbound_http_route_request_statuses_total", &[]), 1);
        assert_eq!(mesh.count("response_total", &["status_code=\"503\""]), 2);
    });
}

#[test]
fn forwards_a_reset_to_http2_and_answers_502_to_http1() {
    run(async || {
        let mesh = Mesh::new();
        let sidecar = mesh
            .web(|_| async { Err(proxy_http::Error::reset(h2::Reason::ENHANCE_YOUR_CALM)) })
            .await;
        mesh.service(&[&sidecar.endpoint]);
        let mut http = mesh.http1().await;
        assert_eq!(
            http.send(&mut get("/")).await.expect("a response").status(),
            StatusCode::BAD_GATEWAY
        );
        let mut http2 = mesh.http2().await;
        let mut request = Request::get("http://web.ns/").body(Body::Empty).expect("valid");
        let failed = http2.send(&mut request).await.expect_err("reset");
        assert_eq!(failed.error.h2_reason(), Some(h2::Reason::ENHANCE_YOUR_CALM));
    });
}

#[test]
fn counts_concurrent_failures_once_and_finds_a_recovered_application_soon() {
    run(async || {
        let mesh = Mesh::new();
        let is_back = Rc::new(Cell::new(false));
        let back = is_back.clone();
        let sidecar = mesh
            .web(move |_| {
                let back = back.get();
                async move {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    let response = Response::builder();
                    let response = if back {
                        response
                    } else {
                        response.status(502).header(MESH_NEVER_ARRIVED, "true")
                    };
                    Ok(response.body(Body::Empty).expect("valid"))
                }
            })
            .await;
        mesh.service(&[&sidecar.endpoint]);
        let http2 = mesh.http2().await;
        let requests = (0..50).map(|_| {
            let mut http2 = http2.clone();
            async move {
                let mut request = Request::get("http://web.ns/").body(Body::Empty).expect("valid");
                http2.send(&mut request).await.expect("a response").status()
            }
        });
        let began = Instant::now();
        let comes_back = async {
            tokio::time::sleep(Duration::from_millis(60)).await;
            is_back.set(true);
        };
        let (statuses, ()) = tokio::join!(futures_util::future::join_all(requests), comes_back);
        assert!(statuses.iter().all(|status| *status == StatusCode::OK), "{statuses:?}");
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    });
}
