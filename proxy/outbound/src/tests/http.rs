//! Requests: splits, protocols, headers, metrics.

use std::{cell::RefCell, rc::Rc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use proxy_http::Body;
use proxy_model::{
    route::{Filter, HeaderModifier},
    tap::{TapEventKind, TapMatch},
};
use proxy_transport::header::SessionProtocol;

use super::support::*;

#[test]
fn applies_a_split_to_open_connections_at_once() {
    run(async || {
        let mesh = Mesh::new();
        let ((v1, first), (v2, second)) = (mesh.text("v1").await, mesh.text("v2").await);
        mesh.script.endpoints("v1.ns:80", [v1.endpoint.clone()]);
        mesh.script.endpoints("v2.ns:80", [v2.endpoint.clone()]);
        mesh.split(&[("v1.ns:80", 90), ("v2.ns:80", 10)]);
        let mut http = mesh.http1().await;
        // Once both were overrides for, both are ready.
        while first.get() == 0 || second.get() == 0 {
            read(http.send(&mut get("/")).await.expect("a response")).await;
        }
        let before = (first.get(), second.get());
        for _ in 0..1000 {
            assert_eq!(
                read(http.send(&mut get("/")).await.expect("a response")).await.0,
                StatusCode::OK
            );
        }
        let hits = (first.get() - before.0, second.get() - before.1);
        assert!(hits.0 + hits.1 == 1000 && (60..140).contains(&hits.1), "{hits:?}");

        mesh.split(&[("v1.ns:80", 0), ("v2.ns:80", 100)]);
        for _ in 0..100 {
            assert_eq!(read(http.send(&mut get("/")).await.expect("a response")).await.1, "v2");
        }
        // The endpoint's state survived the update: it still has its one connection.
        assert_eq!((v1.connections.get(), v2.connections.get()), (1, 1));
    });
}

#[test]
fn a_new_backend_gets_its_share_before_its_endpoints_are_known() {
    run(async || {
        let mesh = Mesh::new();
        let ((v1, first), (v2, second)) = (mesh.text("v1").await, mesh.text("v2").await);
        mesh.script.endpoints("v1.ns:80", [v1.endpoint.clone()]);
        // Each turn of the wait draws again: a busy loop would soon draw v1.
        mesh.split(&[("v1.ns:80", 1), ("v2.ns:80", 20_000)]);
        let mut http = mesh.http1().await;
        let later = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            mesh.script.endpoints("v2.ns:80", [v2.endpoint.clone()]);
        };
        let mut request = get("/");
        let (response, ()) = tokio::join!(http.send(&mut request), later);
        assert_eq!(read(response.expect("a response")).await.1, "v2");
        assert_eq!((first.get(), second.get()), (0, 1));

        // But an unavailable control plane does not hold requests back for long.
        mesh.split(&[("v1.ns:80", 1), ("v3.ns:80", 1_000_000)]);
        assert_eq!(read(http.send(&mut get("/")).await.expect("a response")).await.1, "v1");
    });
}

#[test]
fn carries_http1_in_http2() {
    run(async || {
        let mesh = Mesh::new();
        let seen: Seen<(String, Version, HeaderMap)> = Rc::default();
        let log = seen.clone();
        let sidecar = mesh
            .web(move |request| {
                log.borrow_mut()
                    .push((request.uri().to_string(), request.version(), request.headers().clone()));
                let mut response = Response::new(Body::Full(Bytes::from_static(b"hi")));
                for (name, value) in [
                    ("l5d-orig-proto", "HTTP/1.1"),
                    ("l5d-proxy-error", "x"),
                    ("l5d-proxy-connection", "close"),
                ] {
                    response.headers_mut().insert(name, HeaderValue::from_static(value));
                }
                async { Ok(response) }
            })
            .await;
        mesh.service(&[&sidecar.endpoint]);
        let mut http = mesh.http1().await;
        let mut request = get("/a?b");
        request
            .headers_mut()
            .insert("connection", HeaderValue::from_static("x-hop"));
        request.headers_mut().insert("x-hop", HeaderValue::from_static("1"));
        let response = http.send(&mut request).await.expect("a response");
        assert_eq!(response.version(), Version::HTTP_11);
        let names: Vec<_> = response.headers().keys().map(|name| name.as_str().to_owned()).collect();
        let ours: Vec<_> = names.iter().filter(|name| name.starts_with("l5d-")).collect();
        assert_eq!(ours, ["l5d-proxy-error"]);
        assert_eq!(read(response).await.1, "hi");

        let (uri, version, headers) = seen.borrow_mut().remove(0);
        assert_eq!((uri.as_str(), version), ("http://web.ns/a?b", Version::HTTP_2));
        let mut all: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
            .collect();
        all.sort();
        assert_eq!(all, ["host: web.ns", "l5d-orig-proto: HTTP/1.1"]);
    });
}

#[test]
fn keeps_the_reason_of_a_refusal_only_with_informational_headers() {
    run(async || {
        for informational_headers in [true, false] {
            let mesh = Mesh::with(|config| config.informational_headers = informational_headers);
            let sidecar = mesh
                .web(|_| {
                    let response = Response::builder()
                        .status(403)
                        .header("l5d-proxy-error", "unauthorized");
                    async { Ok(response.body(Body::Empty).expect("valid")) }
                })
                .await;
            mesh.service(&[&sidecar.endpoint]);
            let mut http = mesh.http1().await;
            let response = http.send(&mut get("/")).await.expect("a response");
            assert_eq!(response.status(), 403);
            let reason = response.headers().get("l5d-proxy-error");
            assert_eq!(
                reason.is_some_and(|reason| reason == "unauthorized"),
                informational_headers
            );
        }
    });
}

#[test]
fn uses_a_separate_connection_per_protocol() {
    run(async || {
        let mesh = Mesh::new();
        let sessions: Seen<Option<SessionProtocol>> = Rc::default();
        let log = sessions.clone();
        let sidecar = mesh
            .sidecar(move |header, io| {
                assert_eq!((header.port.get(), header.name), (8080, None));
                log.borrow_mut().push(header.protocol);
                async move {
                    use proxy_http::server;
                    let (metrics, drain) = (proxy_metrics::Metrics::default().recorder(), Default::default());
                    let serving = server::Serving::new(&metrics, &drain);
                    let service = |mut request: Request<Body>| async move {
                        if request.headers().contains_key("upgrade") {
                            spawn_echo(hyper::upgrade::on(&mut request));
                            let response = Response::builder().status(101).header("upgrade", "echo");
                            let response = response.header("connection", "upgrade").body(Body::Empty);
                            return Ok(response.expect("valid"));
                        }
                        Ok::<_, std::convert::Infallible>(Response::new(Body::Empty))
                    };
                    match header.protocol {
                        Some(SessionProtocol::Http1) => drop(server::http1(io, service, serving).await),
                        _ => drop(server::http2(io, service, serving).await),
                    }
                }
            })
            .await;
        mesh.service(&[&sidecar.endpoint]);
        let mut http1 = mesh.http1().await;
        for _ in 0..2 {
            assert_eq!(
                http1.send(&mut get("/")).await.expect("a response").status(),
                StatusCode::OK
            );
        }
        let mut http2 = mesh.http2().await;
        let mut absolute = Request::get("http://web.ns/").body(Body::Empty).expect("valid");
        assert_eq!(
            http2.send(&mut absolute).await.expect("a response").status(),
            StatusCode::OK
        );
        let mut request = get("/socket");
        request
            .headers_mut()
            .insert("connection", HeaderValue::from_static("upgrade"));
        request
            .headers_mut()
            .insert("upgrade", HeaderValue::from_static("echo"));
        let mut response = http1.send(&mut request).await.expect("a response");
        assert_eq!(
            (response.status().as_u16(), response.headers()["upgrade"].as_bytes()),
            (101, &b"echo"[..])
        );
        let upgraded = hyper::upgrade::on(&mut response).await.expect("upgraded");
        let mut io = hyper_util::rt::TokioIo::new(upgraded);
        tokio::io::AsyncWriteExt::write_all(&mut io, b"hello")
            .await
            .expect("open");
        let mut echo = [0; 5];
        tokio::io::AsyncReadExt::read_exact(&mut io, &mut echo)
            .await
            .expect("an echo");
        assert_eq!(&echo, b"hello");
        let expected = [SessionProtocol::Http2, SessionProtocol::Http2, SessionProtocol::Http1].map(Some);
        assert_eq!(*sessions.borrow(), expected);
    });
}

fn spawn_echo(upgrade: hyper::upgrade::OnUpgrade) {
    tokio::task::spawn_local(async move {
        let io = hyper_util::rt::TokioIo::new(upgrade.await.expect("upgraded"));
        let (mut read, mut write) = tokio::io::split(io);
        let _ = tokio::io::copy(&mut read, &mut write).await;
    });
}

#[test]
fn streams_grpc_both_ways_and_counts_its_status() {
    run(async || {
        let mesh = Mesh::new();
        let sidecar = mesh
            .web(|request| async move {
                assert!(!request.headers().contains_key("l5d-orig-proto"));
                let body = request.into_body().map_frame(|frame| match frame.into_data() {
                    Ok(data) => Frame::data(data),
                    Err(_) => Frame::trailers(HeaderMap::from_iter([(
                        http::HeaderName::from_static("grpc-status"),
                        HeaderValue::from_static("14"),
                    )])),
                });
                let body = Body::boxed(body);
                let response = Response::builder().header("content-type", "application/grpc");
                Ok(response.body(body).expect("valid"))
            })
            .await;
        mesh.service(&[&sidecar.endpoint]);
        let mut http2 = mesh.http2().await;
        let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, proxy_http::Error>>(1);
        let stream = futures_util::stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|frame| (frame, receiver))
        });
        let request = Request::post("http://web.ns/svc/Call").header("content-type", "application/grpc");
        let mut request = request.body(Body::boxed(StreamBody::new(stream))).expect("valid");
        let mut body = http2.send(&mut request).await.expect("a response").into_body();
        for message in ["one", "two"] {
            sender.send(Ok(Frame::data(Bytes::from(message)))).await.expect("open");
            let frame = body.frame().await.expect("a frame").expect("no error");
            assert_eq!(frame.data_ref().map(|data| &data[..]), Some(message.as_bytes()));
        }
        sender.send(Ok(Frame::trailers(HeaderMap::new()))).await.expect("open");
        drop(sender);
        let frame = body.frame().await.expect("a frame").expect("no error");
        assert_eq!(
            frame
                .trailers_ref()
                .and_then(|t| t.get("grpc-status"))
                .expect("a status"),
            "14"
        );
        let labels = [
            "grpc_status=\"14\"",
            "classification=\"failure\"",
            "status_code=\"200\"",
        ];
        assert_eq!(mesh.count("response_total", &labels), 1);
    });
}

#[test]
fn counts_with_upstream_labels() {
    run(async || {
        let mesh = Mesh::new();
        let sidecar = mesh
            .web(|request| {
                let status = if request.uri().path() == "/bad" { 500 } else { 200 };
                let response = Response::builder()
                    .status(status)
                    .body(Body::Full(Bytes::from_static(b"x")));
                async { Ok(response.expect("valid")) }
            })
            .await;
        mesh.service(&[&sidecar.endpoint]);
        let mut http = mesh.http1().await;
        for path in ["/", "/bad", "/", "/"] {
            read(http.send(&mut get(path)).await.expect("a response")).await;
        }
        let target = format!("target_addr=\"{}\"", sidecar.endpoint.addr);
        let server = format!(
            "tls=\"true\",server_id=\"{WEB_ID}\",dst_pod=\"web-{}\"",
            sidecar.endpoint.addr.ip()
        );
        let authority = "direction=\"outbound\",authority=\"web.ns.svc.cluster.local\",";
        assert_eq!(mesh.count("request_total", &[&target, &server, authority]), 4);
        assert_eq!(
            mesh.count(
                "response_total",
                &[&server, "status_code=\"200\",classification=\"success\""]
            ),
            3
        );
        assert_eq!(
            mesh.count(
                "response_total",
                &[&server, "status_code=\"500\",classification=\"failure\""]
            ),
            1
        );
        assert_eq!(mesh.count("response_latency_ms_count", &[&server]), 4);
        assert_eq!(
            mesh.count("tcp_open_connections", &["peer=\"dst\"", &target, &server]),
            1
        );
        assert_eq!(
            mesh.count("tcp_open_connections", &["peer=\"src\",target_addr=\"10.96.0.1:80\""]),
            1
        );
        let route = [
            "parent_name=\"web\"",
            "route_name=\"http\"",
            "http_status=\"200\",error=\"\"",
        ];
        assert_eq!(mesh.count("outbound_http_route_request_statuses_total", &route), 3);
        assert_eq!(
            mesh.count("outbound_http_route_backend_requests_total", &["backend_name=\"web\""]),
            4
        );
        drop(http);
    });
}

#[test]
fn tap_reports_both_ends_of_a_request() {
    run(async || {
        let mesh = Mesh::new();
        let (sidecar, _) = mesh.text("hi").await;
        mesh.service(&[&sidecar.endpoint]);
        let mut events = mesh.tap.observe(TapMatch::All(Vec::new()), 1, false).expect("allowed");
        let mut http = mesh.http1().await;
        read(http.send(&mut get("/tapped")).await.expect("a response")).await;
        let mut kinds = Vec::new();
        while kinds.len() < 3 {
            let event = events.recv().await.expect("three events");
            assert_eq!(
                (event.request.path.as_str(), event.request.authority.as_str()),
                ("/tapped", "web.ns")
            );
            assert_eq!(event.request.destination_labels["server_id"], WEB_ID);
            kinds.push(event.kind);
        }
        assert!(
            matches!(kinds[1], TapEventKind::ResponseInit { status: 200, .. }),
            "{kinds:?}"
        );
        assert!(
            matches!(kinds[2], TapEventKind::ResponseEnd { response_bytes: 2, .. }),
            "{kinds:?}"
        );
    });
}

#[test]
fn keeps_http1_connections_to_endpoints_without_a_sidecar() {
    run(async || {
        let mesh = Mesh::new();
        let seen: Seen<(Version, String)> = Rc::default();
        let log = seen.clone();
        let endpoint = mesh
            .plain(move |request| log.borrow_mut().push((request.version(), request.uri().to_string())))
            .await;
        mesh.service(&[&endpoint]);
        let mut http = mesh.http1().await;
        for _ in 0..3 {
            let (status, text) = read(http.send(&mut post("/p", "body")).await.expect("a response")).await;
            assert_eq!((status, text.as_str()), (StatusCode::OK, "body"));
        }
        assert_eq!(*seen.borrow(), vec![(Version::HTTP_11, "/p".to_owned()); 3]);
        assert_eq!(
            mesh.count("tcp_open_total", &["peer=\"dst\"", "not_provided_by_service_discovery"]),
            1
        );
    });
}

#[test]
fn drain_closes_the_connection_after_its_request() {
    run(async || {
        let mesh = Mesh::new();
        let gate = Rc::new(tokio::sync::Notify::new());
        let wait = gate.clone();
        let sidecar = mesh
            .web(move |_| {
                let wait = wait.clone();
                async move {
                    wait.notified().await;
                    Ok(Response::new(Body::Full(Bytes::from_static(b"done"))))
                }
            })
            .await;
        mesh.service(&[&sidecar.endpoint]);
        let mut http = mesh.http1().await;
        let mut request = get("/");
        let (response, ()) = tokio::join!(http.send(&mut request), async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            mesh.drain.cancel();
            gate.notify_one();
        });
        let response = response.expect("a response");
        assert_eq!(
            response.headers().get("connection").map(HeaderValue::as_bytes),
            Some(&b"close"[..])
        );
        assert_eq!(read(response).await.1, "done");
    });
}

#[test]
fn applies_backend_filters_to_requests_and_responses() {
    run(async || {
        let mesh = Mesh::new();
        let seen: Seen<Option<HeaderValue>> = Rc::new(RefCell::default());
        let log = seen.clone();
        let sidecar = mesh
            .web(move |request| {
                log.borrow_mut().push(request.headers().get("x-in").cloned());
                async { Ok(Response::new(Body::Empty)) }
            })
            .await;
        let modifier = |name: &'static str| HeaderModifier {
            set: vec![(http::HeaderName::from_static(name), HeaderValue::from_static("1"))],
            ..HeaderModifier::default()
        };
        let mut to = distribution(&[(SERVICE, 1)]);
        if let proxy_model::outbound::Distribution::RandomAvailable(backends) = &mut to {
            backends[0].0.filters = vec![
                Filter::RequestHeaders(modifier("x-in")),
                Filter::ResponseHeaders(modifier("x-out")),
            ];
        }
        mesh.policy(to, Default::default());
        mesh.script.endpoints(SERVICE, [sidecar.endpoint.clone()]);
        let mut http = mesh.http1().await;
        let response = http.send(&mut get("/")).await.expect("a response");
        assert_eq!(response.headers()["x-out"], "1");
        assert_eq!(*seen.borrow(), [Some(HeaderValue::from_static("1"))]);
    });
}
