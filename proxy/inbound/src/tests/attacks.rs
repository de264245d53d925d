//! Attacks on the policy of a port: by its absence, by bytes that are not HTTP, by requests that policy and application
//! read differently, and by headers that only the mesh may set.

use std::{cell::Cell, net::SocketAddr, rc::Rc, time::Duration};

use ::http::{Request, StatusCode};
use proxy_http::{Body, client, headers};
use proxy_model::{
    Authentication, Http2Params, ServerProtocol,
    inbound::{Action, HttpRoute, RateLimit},
    limits,
    route::{Filter, HttpMatch, PathMatch, Route, Rule},
};
use proxy_tls::Alpn;
use proxy_transport::header::{Header, SessionProtocol};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::spawn_local,
    time::timeout,
};

use super::support::{API, SOON, Web, authorization, detect, http1_app, http2_app, open, policy, run};

/// Application that counts its connections and echoes what it reads.
async fn counted() -> (SocketAddr, Rc<Cell<u32>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    let count = Rc::new(Cell::new(0));
    let counter = Rc::clone(&count);
    spawn_local(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            counter.set(counter.get() + 1);
            spawn_local(async move {
                let (mut read, mut write) = socket.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    (addr, count)
}

/// Reads until the end of the connection, however it ends.
async fn rest(mut io: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut got = Vec::new();
    let _ = timeout(SOON, io.read_to_end(&mut got)).await.expect("in time");
    got
}

fn route(path: &str, filters: Vec<Filter>) -> HttpRoute {
    let matched = HttpMatch {
        path: Some(PathMatch::Prefix(path.to_owned())),
        ..HttpMatch::default()
    };
    let rule = Rule {
        matches: vec![matched],
        filters,
        action: Action,
    };
    let meta = proxy_model::Meta::default_named(path);
    Route {
        meta,
        hosts: vec![],
        rules: vec![rule],
        authorizations: vec![],
    }
}

fn routed(routes: Vec<HttpRoute>) -> ServerProtocol {
    ServerProtocol::Detect {
        timeout: None,
        routes,
        rate_limit: None,
    }
}

#[test]
fn a_port_without_a_policy_is_refused_after_a_while() {
    run(async || {
        let web = Web::new();
        let (app, connections) = counted().await;
        let mut io = web.connect(app).await;
        io.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n")
            .await
            .expect("open");
        let mut direct = web
            .connect_tls("127.0.0.1:4143".parse().expect("valid"), Alpn::TransportHeader)
            .await;
        let port = app.port().try_into().expect("not 0");
        direct
            .write_all(&Header::port(port, None).encode())
            .await
            .expect("open");
        direct.write_all(b"bytes").await.expect("open");
        let (got, through) = tokio::join!(rest(io), rest(direct));
        assert_eq!((got.len(), through.len()), (0, 0), "{got:?} {through:?}");
        assert_eq!(connections.get(), 0);
        let refused = web.count("inbound_tcp_errors_total", &["error=\"policy unknown\""]);
        assert_eq!(refused, 2, "{}", web.metrics.render());
    });
}

#[test]
fn a_held_connection_goes_on_once_the_policy_is_known() {
    run(async || {
        let web = Web::new();
        let (app, connections) = counted().await;
        let mut io = web.connect(app).await;
        io.write_all(b"QUIT\r\n").await.expect("open");
        io.shutdown().await.expect("open");
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(connections.get(), 0);
        web.script.inbound(app.port(), open(detect()));
        assert_eq!(rest(io).await, b"QUIT\r\n");
    });
}

#[test]
fn held_connections_are_limited() {
    run(async || {
        let web = Web::new();
        let (app, connections) = counted().await;
        let near = web.listen(app).await;
        let mut held = Vec::new();
        for _ in 0..=limits::UNDECIDED_CONNECTIONS.value {
            held.push(tokio::net::TcpStream::connect(near).await.expect("it listens"));
        }
        let last = held.pop().expect("some");
        assert!(rest(last).await.is_empty());
        let refused = web.count("mesh_limit_refused_total", &["limit=\"UNDECIDED_CONNECTIONS\""]);
        assert_eq!((refused, connections.get()), (1, 0));
    });
}

#[test]
fn bytes_do_not_pass_a_policy_about_requests() {
    run(async || {
        let limit = RateLimit {
            meta: None,
            total: Some(1000),
            identity: None,
            overrides: vec![],
        };
        let limited = ServerProtocol::Detect {
            timeout: None,
            routes: vec![],
            rate_limit: Some(limit),
        };
        let filtered = routed(vec![route("/", vec![]), route("/x", vec![Filter::Forbidden])]);
        for protocol in [limited, filtered, routed(vec![route("/only", vec![])])] {
            let web = Web::new();
            let (app, connections) = counted().await;
            web.script.inbound(app.port(), open(protocol));
            let mut io = web.connect(app).await;
            // HTTP/0.9, which some applications still answer.
            io.write_all(b"GET /admin\r\nl5d-client-id: admin\r\n\r\n")
                .await
                .expect("open");
            let mut direct = web
                .connect_tls("127.0.0.1:4143".parse().expect("valid"), Alpn::TransportHeader)
                .await;
            let port = app.port().try_into().expect("not 0");
            direct
                .write_all(&Header::port(port, None).encode())
                .await
                .expect("open");
            direct
                .write_all(b"GET /admin HTTP/1.1\r\nhost: web\r\nl5d-client-id: admin\r\n\r\n")
                .await
                .expect("open");
            let mut stalled = web.connect(app).await;
            stalled.write_all(b"GET /admin HT").await.expect("open");
            let (got, through, slow) = tokio::join!(rest(io), rest(direct), rest(stalled));
            assert!(
                got.is_empty() && through.is_empty() && slow.is_empty(),
                "{got:?} {through:?} {slow:?}"
            );
            assert_eq!(connections.get(), 0);
            let refused = web.count("inbound_tcp_errors_total", &["error=\"http required\""]);
            assert_eq!(refused, 3, "{}", web.metrics.render());
            assert_eq!(web.count("inbound_tcp_authz_deny_total", &[]), 3);
        }
    });
}

#[test]
fn a_silent_connection_to_an_http_port_is_not_given_up_to_bytes() {
    run(async || {
        let web = Web::new();
        let app = http1_app(async |_| ::http::Response::new(Body::Empty)).await;
        web.script
            .inbound(app.port(), open(routed(vec![route("/only", vec![])])));
        let mut io = web.connect_tls(app, Alpn::None).await;
        // Longer than detection takes.
        tokio::time::sleep(Duration::from_millis(600)).await;
        io.write_all(b"GET /admin HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n")
            .await
            .expect("open");
        let got = rest(io).await;
        assert!(got.starts_with(b"HTTP/1.1 404 "), "{}", String::from_utf8_lossy(&got));
    });
}

#[test]
fn routes_that_appear_end_connections_of_bytes() {
    run(async || {
        let web = Web::new();
        let (app, _) = counted().await;
        web.script.inbound(app.port(), open(detect()));
        let mut io = web.connect(app).await;
        io.write_all(b"QUIT\r\n").await.expect("open");
        let mut got = [0; 6];
        timeout(SOON, io.read_exact(&mut got))
            .await
            .expect("in time")
            .expect("open");
        web.script
            .inbound(app.port(), open(routed(vec![route("/only", vec![])])));
        assert!(
            timeout(SOON, io.read(&mut got)).await.expect("in time").is_err(),
            "cut off"
        );
    });
}

/// Sends raw HTTP/1, and returns status and body of the response.
async fn raw(web: &Web, app: SocketAddr, text: &str) -> String {
    let mut io = web.connect(app).await;
    io.write_all(text.as_bytes()).await.expect("open");
    String::from_utf8_lossy(&rest(io).await).into_owned()
}

#[test]
fn a_request_names_one_host() {
    run(async || {
        let web = Web::new();
        let app = http1_app(async |request: Request<Body>| {
            let host = request.headers()["host"].clone();
            ::http::Response::builder()
                .header("x-host", host)
                .body(Body::Empty)
                .expect("valid")
        })
        .await;
        web.script.inbound(app.port(), open(detect()));
        let ask = async |head: &str| raw(&web, app, &format!("{head}connection: close\r\n\r\n")).await;
        for twice in [
            "GET / HTTP/1.1\r\nhost: web\r\nhost: admin\r\n",
            "GET / HTTP/1.1\r\nhost: web\r\nhost: web\r\n",
            "GET http://web/ HTTP/1.1\r\nhost: web\r\nhost: admin\r\n",
        ] {
            let got = ask(twice).await;
            assert!(got.starts_with("HTTP/1.1 400 "), "{twice}: {got}");
        }
        let got = ask("GET http://web/ HTTP/1.1\r\nhost: admin\r\n").await;
        assert!(
            got.starts_with("HTTP/1.1 200 ") && got.contains("x-host: web\r\n"),
            "{got}"
        );
        let refused = web.count("inbound_http_errors_total", &["error=\"unexpected\""]);
        assert_eq!(refused, 3, "{}", web.metrics.render());
    });
}

#[test]
fn the_host_of_http2_is_its_authority() {
    run(async || {
        let web = Web::new();
        let app = http2_app(async |_| ::http::Response::new(Body::Empty)).await;
        web.script.inbound(app.port(), open(detect()));
        let io = web.connect_tls(app, Alpn::None).await;
        let mut mesh = client::http2(io, &Http2Params::default()).await.expect("a connection");
        for (host, status) in [
            ("web", StatusCode::OK),
            ("WEB", StatusCode::OK),
            ("web:80", StatusCode::OK),
            ("admin", StatusCode::BAD_REQUEST),
            ("web:81", StatusCode::BAD_REQUEST),
            ("", StatusCode::BAD_REQUEST),
        ] {
            let request = Request::get("http://web/")
                .version(::http::Version::HTTP_2)
                .header("host", host);
            let response = mesh
                .send(&mut request.body(Body::Empty).expect("valid"))
                .await
                .expect("an answer");
            assert_eq!(response.status(), status, "{host:?}");
        }
    });
}

#[test]
fn carried_http1_names_one_host() {
    run(async || {
        let web = Web::new();
        let app = http1_app(super::http::echo).await;
        web.script.inbound(app.port(), open(detect()));
        let io = web.connect_tls(app, Alpn::None).await;
        let mut mesh = client::http2(io, &Http2Params::default()).await.expect("a connection");
        for (mark, host, status) in [
            ("HTTP/1.1", "web", StatusCode::OK),
            ("HTTP/1.1", "admin", StatusCode::BAD_REQUEST),
            // The target of an absolute form wins (RFC 9112, 3.2.2).
            ("HTTP/1.1; absolute-form", "admin", StatusCode::OK),
        ] {
            let request = Request::get("http://web/")
                .version(::http::Version::HTTP_2)
                .header(headers::L5D_ORIG_PROTO, mark)
                .header("host", host);
            let response = mesh
                .send(&mut request.body(Body::Empty).expect("valid"))
                .await
                .expect("an answer");
            assert_eq!(response.status(), status, "{mark} {host}");
            if status == StatusCode::OK {
                assert_eq!(response.headers()["x-host"], "web");
            }
        }
    });
}

/// Paths that applications may read as one below `/admin`.
const EVASIONS: [&str; 19] = [
    "/public/../admin",
    "/public/%2e%2e/admin",
    "/public/..%2fadmin",
    "/./admin",
    "//admin",
    "/public//../admin",
    "/%61dmin",
    "/%2561dmin",
    "/%2fadmin",
    "/admin;x",
    "/;x/admin",
    "/public/..;/admin",
    "/public\\..\\admin",
    "/%5cadmin",
    "/admin%3fx",
    "/admin%23x",
    "/admin%00",
    "/public/%c0%ae%c0%ae/admin",
    "http://web//admin",
];

#[test]
fn a_path_that_the_application_may_read_differently_is_refused() {
    run(async || {
        let web = Web::new();
        let app = http1_app(async |request: Request<Body>| {
            let path = request.uri().path().to_owned();
            ::http::Response::builder()
                .header("x-path", path)
                .body(Body::Empty)
                .expect("valid")
        })
        .await;
        // The policy of a port with an open part and a part for a known client.
        let known = Authentication::TlsAuthenticated {
            identities: vec![API.parse().expect("an id")],
            suffixes: vec![],
        };
        let mut admin = route("/admin", vec![]);
        admin.authorizations = vec![authorization(known)];
        let mut public = route("/", vec![]);
        public.authorizations = vec![authorization(Authentication::Unauthenticated)];
        web.script
            .inbound(app.port(), policy(routed(vec![public, admin]), vec![]));
        let ask = async |path: &str| {
            raw(
                &web,
                app,
                &format!("GET {path} HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n"),
            )
            .await
        };
        for path in EVASIONS {
            let got = ask(path).await;
            assert!(got.starts_with("HTTP/1.1 400 "), "{path}: {got}");
        }
        assert!(ask("/admin").await.starts_with("HTTP/1.1 403 "));
        let refused = web.count("inbound_http_errors_total", &["error=\"ambiguous path\""]);
        assert_eq!(refused, EVASIONS.len() as u64, "{}", web.metrics.render());
        // As every reading is public, the path goes on as it came.
        for path in [
            "/a%2Fb",
            "/a//b",
            "/a;v=1",
            "/what%3F",
            "/user%40x",
            "/caf%c3%a9",
            "/100%25",
        ] {
            let got = ask(path).await;
            assert!(got.contains(&format!("x-path: {path}\r\n")), "{path}: {got}");
        }
    });
}

/// Reports the mesh headers of a request, and claims one in its response.
async fn report_headers(request: Request<Body>) -> ::http::Response<Body> {
    let all = request.headers().get_all(headers::L5D_CLIENT_ID).iter();
    let ids: Vec<_> = all.map(|id| id.to_str().expect("text")).collect();
    let proto = request.headers().contains_key(headers::L5D_ORIG_PROTO);
    let response = ::http::Response::builder().header("x-ids", ids.join(","));
    let response = response.header("x-proto", proto.to_string());
    response
        .header(headers::MESH_NEVER_ARRIVED, "true")
        .body(Body::Empty)
        .expect("valid")
}

#[test]
fn only_the_mesh_sets_its_headers_on_every_way_in() {
    run(async || {
        let web = Web::new();
        let app = http1_app(report_headers).await;
        web.script.inbound(app.port(), open(detect()));
        let forged = || {
            let request = Request::get("http://web/").header(headers::L5D_CLIENT_ID, "admin.local");
            let request = request
                .header(headers::L5D_CLIENT_ID, "root.local")
                .header("connection", "l5d-client-id");
            request.header("host", "web").body(Body::Empty).expect("valid")
        };
        let check = |head: &::http::HeaderMap, id: &str| {
            assert_eq!(
                (&head["x-ids"], &head["x-proto"]),
                (&id.parse().unwrap(), &"false".parse().unwrap())
            );
            assert!(!head.contains_key(headers::MESH_NEVER_ARRIVED));
        };
        let mut plain = client::http1(web.connect(app).await).await.expect("a connection");
        check(plain.send(&mut forged()).await.expect("an answer").headers(), "");
        let mut mesh = client::http1(web.connect_tls(app, Alpn::None).await)
            .await
            .expect("a connection");
        check(mesh.send(&mut forged()).await.expect("an answer").headers(), API);
        let carried = || {
            let mut request = forged();
            *request.version_mut() = ::http::Version::HTTP_2;
            request.headers_mut().remove("connection");
            request
                .headers_mut()
                .insert(headers::L5D_ORIG_PROTO, "HTTP/1.1".parse().expect("valid"));
            request
        };
        let io = web.connect_tls(app, Alpn::None).await;
        let mut http2 = client::http2(io, &Http2Params::default()).await.expect("a connection");
        check(http2.send(&mut carried()).await.expect("an answer").headers(), API);
        let io = web.connect(app).await;
        let mut http2 = client::http2(io, &Http2Params::default()).await.expect("a connection");
        check(http2.send(&mut carried()).await.expect("an answer").headers(), "");
        for protocol in [SessionProtocol::Http1, SessionProtocol::Http2] {
            let direct = "127.0.0.1:4143".parse().expect("valid");
            let mut io = web.connect_tls(direct, Alpn::TransportHeader).await;
            let port = app.port().try_into().expect("not 0");
            io.write_all(&Header::port(port, Some(protocol)).encode())
                .await
                .expect("open");
            let response = match protocol {
                SessionProtocol::Http1 => {
                    let mut mesh = client::http1(io).await.expect("a connection");
                    mesh.send(&mut forged()).await.expect("an answer").headers().clone()
                }
                SessionProtocol::Http2 => {
                    let mut mesh = client::http2(io, &Http2Params::default()).await.expect("a connection");
                    mesh.send(&mut carried()).await.expect("an answer").headers().clone()
                }
            };
            check(&response, API);
        }
    });
}
