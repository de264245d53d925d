//! HTTP through the inbound side.

use std::{cell::Cell, rc::Rc, time::Duration};

use ::bytes::Bytes;
use ::http::{HeaderMap, Method, Request, Response, StatusCode, Version, header};
use futures_util::{SinkExt as _, StreamExt as _};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use proxy_http::{Body, client, headers, server};
use proxy_metrics::Metrics;
use proxy_model::{
    Http2Params, ServerProtocol,
    inbound::{Action, RateLimit},
    route::{Filter, HeaderModifier, HttpMatch, PathMatch, PathModifier, Rewrite, Route, Rule},
    tap::{StreamEnd, TapEventKind, TapMatch},
};
use proxy_tls::Alpn;
use proxy_transport::header::{Header, SessionProtocol};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::spawn_local,
    time::timeout,
};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use super::support::{API, SOON, Web, detect, get, http1_app, http2_app, open, request, run};

/// Echoes version, target, some headers, and the body of a request.
pub(super) async fn echo(request: Request<Body>) -> Response<Body> {
    let mut response = Response::builder();
    let text = |name: &str| {
        request
            .headers()
            .get(name)
            .map_or("-", |v| v.to_str().expect("text"))
            .to_owned()
    };
    response = response.header("x-version", format!("{:?}", request.version()));
    response = response.header("x-target", request.uri().to_string());
    for name in [
        "host",
        "l5d-client-id",
        "l5d-orig-proto",
        "transfer-encoding",
        "x-added",
    ] {
        response = response.header(format!("x-{name}"), text(name));
    }
    let body = request.into_body().collect().await.expect("a body").to_bytes();
    response
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .body(Body::Full(body))
        .expect("valid")
}

#[test]
fn forwards_http1_without_forged_client_identity() {
    run(async || {
        let web = Web::new();
        let app = http1_app(echo).await;
        web.script.inbound(app.port(), open(detect()));
        let mut post = request("/a?b=c");
        *post.method_mut() = Method::POST;
        *post.body_mut() = Body::Full(Bytes::from_static(b"hello"));
        post.headers_mut()
            .insert(headers::L5D_CLIENT_ID, "admin.local".parse().expect("valid"));
        let response = get(web.connect(app).await, post).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["x-target"], "/a?b=c");
        assert_eq!(response.headers()["x-version"], "HTTP/1.1");
        assert_eq!(response.headers()["x-l5d-client-id"], "-");
        assert!(
            !response.headers().contains_key("x-hop"),
            "it belonged to the connection"
        );
        assert_eq!(
            response.into_body().collect().await.expect("a body").to_bytes(),
            "hello"
        );
        let labels = [
            "direction=\"inbound\"",
            "tls=\"no_identity\",no_tls_reason=\"no_tls_from_remote\"",
            "srv_group=\"policy.linkerd.io\",srv_kind=\"server\",srv_name=\"web\"",
            "route_kind=\"default\",route_name=\"default\"",
            "authz_kind=\"default\",authz_name=\"test\"",
            "status_code=\"200\",classification=\"success\"",
        ];
        assert_eq!(web.count("response_total", &labels), 1);
        assert_eq!(web.count("request_total", &labels[..5]), 1);
        assert_eq!(web.count("inbound_http_authz_allow_total", &[]), 1);
    });
}

#[test]
fn http1_carried_in_http2_is_restored() {
    run(async || {
        let web = Web::new();
        let app = http1_app(echo).await;
        web.script.inbound(app.port(), open(detect()));
        let io = web.connect_tls(app, Alpn::None).await;
        let mut mesh = client::http2(io, &Http2Params::default()).await.expect("a connection");
        for (mark, target) in [("HTTP/1.1", "/a?b"), ("HTTP/1.1; absolute-form", "http://web:81/a?b")] {
            let mut request = Request::builder()
                .method("POST")
                .uri("http://web:81/a?b")
                .version(Version::HTTP_2)
                .header("host", "web:81")
                .header(headers::L5D_ORIG_PROTO, mark)
                .header(headers::L5D_CLIENT_ID, "admin.local")
                .body(Body::Full(Bytes::from_static(b"hello")))
                .expect("valid");
            let response = mesh.send(&mut request).await.expect("an answer");
            let head = response.headers();
            assert_eq!(
                (&head["x-version"], &head["x-target"]),
                (&"HTTP/1.1".parse().unwrap(), &target.parse().unwrap())
            );
            assert_eq!(
                (&head["x-host"], &head["x-l5d-client-id"]),
                (&"web:81".parse().unwrap(), &API.parse().unwrap())
            );
            assert_eq!(
                (&head["x-l5d-orig-proto"], &head[headers::L5D_ORIG_PROTO]),
                (&"-".parse().unwrap(), &"HTTP/1.1".parse().unwrap())
            );
            assert_eq!(
                response.into_body().collect().await.expect("a body").to_bytes(),
                "hello"
            );
        }
        let client_id = format!("tls=\"true\",client_id=\"{API}\"");
        assert_eq!(web.count("response_total", &[&client_id]), 2);
    });
}

/// A gRPC-like application: echoes each message as it arrives, then a status.
async fn stream_back(request: Request<Body>) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().expect("valid"));
    let frames = request
        .into_body()
        .into_data_stream()
        .map(|data| Ok(Frame::data(data.expect("data"))));
    let frames = frames.chain(futures_util::stream::once(async { Ok(Frame::trailers(trailers)) }));
    let mut response = Response::new(Body::boxed(StreamBody::new(frames)));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, headers::APPLICATION_GRPC);
    response
}

#[test]
fn grpc_streams_both_ways_after_a_transport_header() {
    run(async || {
        let web = Web::new();
        let app = http2_app(stream_back).await;
        web.script
            .inbound(app.port(), open(ServerProtocol::Grpc { routes: Vec::new() }));
        let mut io = web
            .connect_tls("127.0.0.1:4143".parse().expect("valid"), Alpn::TransportHeader)
            .await;
        let port = app.port().try_into().expect("not 0");
        let header = Header::port(port, Some(SessionProtocol::Http2)).encode();
        io.write_all(&header).await.expect("open");
        let mut mesh = client::http2(io, &Http2Params::default()).await.expect("a connection");
        let (send, mut receive) = tokio::sync::mpsc::channel::<Bytes>(1);
        let frames = futures_util::stream::poll_fn(move |cx| receive.poll_recv(cx));
        let body = StreamBody::new(frames.map(|data| Ok(Frame::data(data))));
        let mut request = Request::builder()
            .method("POST")
            .uri("http://web/emoji.Service/Stream")
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .body(Body::boxed(body))
            .expect("valid");
        let mut response = mesh.send(&mut request).await.expect("an answer").into_body();
        for message in ["one", "two", "three"] {
            send.send(Bytes::from_static(message.as_bytes())).await.expect("open");
            let frame = timeout(SOON, response.frame())
                .await
                .expect("in time")
                .expect("a frame")
                .expect("no error");
            assert_eq!(frame.into_data().expect("data"), message);
        }
        drop(send);
        let end = response
            .frame()
            .await
            .expect("a frame")
            .expect("no error")
            .into_trailers()
            .expect("trailers");
        assert_eq!(end["grpc-status"], "0");
        assert_eq!(
            web.count("response_total", &["grpc_status=\"0\"", "classification=\"success\""]),
            1
        );
    });
}

#[test]
fn websocket_passes_two_hops() {
    run(async || {
        let web = Web::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let app = listener.local_addr().expect("bound");
        spawn_local(async move {
            let (socket, _) = listener.accept().await.expect("a client");
            let mut socket = tokio_tungstenite::accept_async(socket).await.expect("a WebSocket");
            while let Some(Ok(message)) = socket.next().await {
                if message.is_text() {
                    socket.send(message).await.expect("open");
                }
            }
        });
        web.script.inbound(app.port(), open(detect()));
        let near = web.listen(app).await;
        web.script.inbound(near.port(), open(detect()));
        let io = web.connect(near).await;
        let (mut socket, response) = tokio_tungstenite::client_async("ws://web/chat", io)
            .await
            .expect("the switch");
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        for text in ["one", "two"] {
            socket.send(Message::text(text)).await.expect("open");
            assert_eq!(
                socket.next().await.expect("a message").expect("no error"),
                Message::text(text)
            );
        }
        socket.close(None).await.expect("open");
        assert!(
            timeout(SOON, socket.next())
                .await
                .expect("in time")
                .is_some_and(|m| m.is_ok_and(|m| m.is_close()))
        );
        assert_eq!(web.count("response_total", &["status_code=\"101\""]), 2);
    });
}

#[test]
fn request_on_a_closed_idle_connection_is_resent() {
    run(async || {
        let web = Web::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let app = listener.local_addr().expect("bound");
        let connections = Rc::new(Cell::new(0));
        let count = connections.clone();
        spawn_local(async move {
            while let Ok((socket, _)) = listener.accept().await {
                count.set(count.get() + 1);
                let drain = CancellationToken::new();
                let closing = drain.clone();
                let service = move |request| {
                    // Closes the connection shortly after the response, unannounced.
                    let closing = closing.clone();
                    spawn_local(async move {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        closing.cancel();
                    });
                    async move { Ok::<_, std::convert::Infallible>(echo(request).await) }
                };
                spawn_local(async move {
                    let metrics = Metrics::default().recorder();
                    server::http1(socket, service, server::Serving::new(&metrics, &drain)).await
                });
            }
        });
        web.script.inbound(app.port(), open(detect()));
        let io = web.connect_tls(app, Alpn::None).await;
        let mut mesh = client::http1(io).await.expect("a connection");
        for _ in 0..3 {
            let mut post = request("/");
            *post.method_mut() = Method::POST;
            let response = mesh.send(&mut post).await.expect("an answer");
            assert_eq!(response.status(), StatusCode::OK);
            response.into_body().collect().await.expect("a body");
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        assert_eq!(connections.get(), 3);
    });
}

#[test]
fn application_connections_are_reused() {
    run(async || {
        let web = Web::new();
        let app = http1_app(echo).await;
        web.script.inbound(app.port(), open(detect()));
        for _ in 0..3 {
            let response = get(web.connect(app).await, request("/")).await;
            response.into_body().collect().await.expect("a body");
        }
        assert_eq!(
            web.count("tcp_open_total", &["peer=\"dst\""]),
            1,
            "three clients, one connection"
        );
        assert_eq!(web.count("tcp_open_total", &["peer=\"src\"", "srv_name=\"web\""]), 3);
    });
}

#[test]
fn routes_filter_and_policy_updates_apply_to_open_connections() {
    run(async || {
        let web = Web::new();
        let app = http1_app(echo).await;
        let pair = |name, value| {
            (
                ::http::HeaderName::from_static(name),
                ::http::HeaderValue::from_static(value),
            )
        };
        let add = Filter::RequestHeaders(HeaderModifier {
            set: vec![pair("x-added", "yes")],
            ..Default::default()
        });
        let path = Some(PathMatch::Prefix("/ok".into()));
        let rule = Rule {
            matches: vec![HttpMatch {
                path,
                ..Default::default()
            }],
            filters: vec![add],
            action: Action,
        };
        let meta = proxy_model::Meta::resource("gateway.networking.k8s.io", "HTTPRoute", "ns", "only-ok");
        let route = Route {
            meta,
            hosts: Vec::new(),
            rules: vec![rule],
            authorizations: Vec::new(),
        };
        let limited = |rate_limit| ServerProtocol::Http1 {
            routes: vec![route.clone()],
            rate_limit,
        };
        web.script.inbound(app.port(), open(limited(None)));
        let mut client = client::http1(web.connect(app).await).await.expect("a connection");
        let mut status = async |path| {
            let response = client.send(&mut request(path)).await.expect("an answer");
            let added = response.headers().get("x-x-added").is_some_and(|v| v == "yes");
            let status = response.status();
            response.into_body().collect().await.expect("a body");
            (status.as_u16(), added)
        };
        assert_eq!((status("/ok").await, status("/no").await), ((200, true), (404, false)));
        let once = RateLimit {
            meta: None,
            total: Some(1),
            identity: None,
            overrides: Vec::new(),
        };
        web.script.inbound(app.port(), open(limited(Some(once))));
        assert_eq!((status("/ok").await, status("/ok").await), ((200, true), (429, false)));
        web.script
            .inbound(app.port(), super::support::policy(limited(None), Vec::new()));
        assert_eq!(status("/ok").await, (403, false));
        assert_eq!(web.count("inbound_http_route_not_found_total", &[]), 1);
        assert_eq!(web.count("inbound_http_local_ratelimit_total", &["scope=\"total\""]), 1);
        assert_eq!(
            web.count("inbound_http_authz_deny_total", &["route_name=\"only-ok\""]),
            1
        );
    });
}

#[test]
fn tap_reports_a_request_from_head_to_end() {
    run(async || {
        let web = Web::new();
        let app = http1_app(echo).await;
        web.script.inbound(app.port(), open(detect()));
        let mut events = web
            .tap
            .observe(TapMatch::Method(Method::GET), 1, false)
            .expect("there is room");
        let io = web.connect_tls(app, Alpn::None).await;
        let mut mesh = client::http1(io).await.expect("a connection");
        mesh.send(&mut request("/seen"))
            .await
            .expect("an answer")
            .into_body()
            .collect()
            .await
            .expect("a body");
        let mut kinds = Vec::new();
        while let Ok(Some(event)) = timeout(SOON, events.recv()).await {
            assert_eq!(
                (event.request.path.as_str(), event.request.authority.as_str()),
                ("/seen", "web")
            );
            assert_eq!(event.request.source_labels["client_id"], API);
            assert_eq!(event.request.destination_labels["srv_name"], "web");
            kinds.push(event.kind);
        }
        assert!(matches!(kinds[0], TapEventKind::RequestInit { .. }));
        assert!(matches!(kinds[1], TapEventKind::ResponseInit { status: 200, .. }));
        assert!(matches!(
            kinds[2],
            TapEventKind::ResponseEnd {
                end: StreamEnd::Complete,
                ..
            }
        ));
    });
}

#[test]
fn drain_ends_connections_after_their_requests() {
    run(async || {
        let web = Web::new();
        let slow = async |request| {
            tokio::time::sleep(Duration::from_millis(50)).await;
            echo(request).await
        };
        let app = http1_app(slow).await;
        web.script.inbound(app.port(), open(detect()));
        let mut http1 = client::http1(web.connect(app).await).await.expect("a connection");
        let io = web.connect_tls(app, Alpn::None).await;
        let mut http2 = client::http2(io, &Http2Params::default()).await.expect("a connection");
        let carried = Request::builder()
            .uri("http://web/")
            .header(headers::L5D_ORIG_PROTO, "HTTP/1.1");
        let mut carried = carried.body(Body::Empty).expect("valid");
        let drain = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            web.drain.cancel();
        };
        let mut plain = request("/");
        let (one, two, ()) = tokio::join!(http1.send(&mut plain), http2.send(&mut carried), drain);
        assert_eq!(one.expect("an answer").status(), StatusCode::OK);
        assert_eq!(two.expect("an answer").status(), StatusCode::OK);
        let closed = async {
            while !http1.is_closed() || !http2.is_closed() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, closed).await.expect("both connections end");
    });
}

#[test]
fn large_upload_is_unchanged() {
    run(async || {
        let web = Web::new();
        let app = http1_app(echo).await;
        web.script.inbound(app.port(), open(detect()));
        let mut io = web.connect(app).await;
        let sent: Vec<u8> = (0..2_000_000u32).map(|i| (i % 251) as u8).collect();
        let head = format!(
            "POST / HTTP/1.1\r\nhost: web\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            sent.len()
        );
        io.write_all(head.as_bytes()).await.expect("open");
        io.write_all(&sent).await.expect("open");
        let mut got = Vec::new();
        io.read_to_end(&mut got).await.expect("an answer");
        assert!(got.ends_with(&sent), "the body comes back as it went");
    });
}

#[test]
fn rewrites_and_response_headers_of_a_servers_route_act() {
    run(async || {
        let web = Web::new();
        let (app, http2) = (http1_app(echo).await, http2_app(echo).await);
        let modifier = HeaderModifier {
            set: vec![(
                header::HeaderName::from_static("x-out"),
                header::HeaderValue::from_static("1"),
            )],
            ..HeaderModifier::default()
        };
        let rewrite = Rewrite {
            host: Some("api.example".into()),
            path: Some(PathModifier::Prefix("/new".into())),
        };
        let matched = HttpMatch {
            path: Some(PathMatch::Prefix("/old".into())),
            ..HttpMatch::default()
        };
        let route = Route {
            meta: proxy_model::Meta::default_named("route"),
            hosts: Vec::new(),
            rules: vec![Rule {
                matches: vec![matched],
                filters: vec![Filter::Rewrite(rewrite), Filter::ResponseHeaders(modifier)],
                action: Action,
            }],
            authorizations: Vec::new(),
        };
        let policy = open(ServerProtocol::Detect {
            timeout: None,
            routes: vec![route],
            rate_limit: None,
        });
        web.script.inbound(app.port(), policy.clone());
        web.script.inbound(http2.port(), policy);
        let response = get(web.connect(app).await, request("/old/a?b")).await;
        let text = |headers: &HeaderMap, name: &str| headers[name].to_str().expect("text").to_owned();
        let seen = ["x-target", "x-host", "x-out"].map(|name| text(response.headers(), name));
        assert_eq!(seen, ["/new/a?b", "api.example", "1"]);

        let io = web.connect_tls(http2, Alpn::None).await;
        let mut mesh = client::http2(io, &Http2Params::default()).await.expect("a connection");
        let mut native = Request::get("http://web/old").body(Body::Empty).expect("valid");
        let response = mesh.send(&mut native).await.expect("an answer");
        let seen = ["x-target", "x-host", "x-out"].map(|name| text(response.headers(), name));
        assert_eq!(seen, ["http://api.example/new", "-", "1"]);
    });
}
