//! Rejections of the inbound side, and their form.

use ::http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use proxy_http::{Body, client, headers};
use proxy_model::{
    Authentication, Http2Params, Meta, OrigDstAddr, ServerProtocol, TlsIdentity,
    inbound::{ADDITIVE_GROUP, Action, catch_all},
    route::{HttpMatch, PathMatch, Pattern, Route, Rule},
};
use proxy_tls::Alpn;
use proxy_transport::header::{Header, SessionProtocol};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::timeout,
};

use super::{
    http::echo,
    support::{API, SOON, WEB, Web, authorization, detect, get, http1_app, open, policy, request, run},
};
use crate::{DirectError, Error, accept, connection::Addresses};

const DIRECT: &str = "127.0.0.1:4143";

/// Hands a connection straight to the first phase, and returns the error that ended it.
async fn why(web: &Web, target: &str, client: impl AsyncFnOnce(tokio::net::TcpStream)) -> Error {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    let target = OrigDstAddr(target.parse().expect("valid"));
    let server = async {
        let (socket, _) = listener.accept().await.expect("a client");
        let addresses = Addresses {
            orig_dst: target,
            client: web.client,
        };
        accept::accept(&web.worker, socket, addresses, web.drain.clone()).await
    };
    let client = async { client(tokio::net::TcpStream::connect(addr).await.expect("it listens")).await };
    let (ended, ()) = tokio::join!(server, client);
    ended.expect_err("a rejection")
}

/// Sends these bytes inside mesh TLS, and expects the connection to end without a response.
async fn direct(web: &Web, alpn: Alpn, bytes: &[u8]) -> Error {
    let client = web.workload(API);
    why(web, DIRECT, async |io| {
        let web = TlsIdentity::dns(WEB).expect("an id");
        let mut io = client.connect(io, &web, alpn).await.expect("a handshake");
        // The proxy may have closed already.
        let _ = io.write_all(bytes).await;
        let got = timeout(SOON, io.read(&mut [0; 8])).await.expect("in time");
        assert!(got.is_err() || matches!(got, Ok(0)), "closed without a byte");
    })
    .await
}

const PREFACE: &[u8] = b"transport.l5d.io/v1\r\n\r\n";

#[test]
fn rejects_invalid_transport_headers() {
    run(async || {
        let web = Web::new();
        let header = |tail: &[u8]| [PREFACE, tail].concat();
        let garbled = [
            header(&[0, 0, 0, 2, 0x08, 0x00]),
            header(&[0, 0, 0, 0]),
            header(&[0, 0, 0, 4, 0x08, 0x80, 0x80, 0x04]),
            header(&[0, 0, 0, 2, 0xff, 0xff]),
            header(&[0x7f, 0xff, 0xff, 0xff]),
            b"GET / HTTP/1.1\r\nhost: web\r\n\r\n".to_vec(),
        ];
        for bytes in garbled {
            let error = direct(&web, Alpn::TransportHeader, &bytes).await;
            assert!(
                matches!(error, Error::Direct(DirectError::Header(_))),
                "{bytes:?}: {error}"
            );
        }
        let error = direct(&web, Alpn::TransportHeader, &PREFACE[..5]).await;
        assert!(matches!(error, Error::Direct(DirectError::HeaderTimeout)), "{error}");
        let own = Header::port(4143.try_into().expect("not 0"), Some(SessionProtocol::Http2)).encode();
        assert!(matches!(
            direct(&web, Alpn::TransportHeader, &own).await,
            Error::Loop(4143)
        ));
        let mut gateway = Header::port(80.try_into().expect("not 0"), None);
        gateway.name = Some("web.ns.svc.cluster.local".into());
        let error = direct(&web, Alpn::TransportHeader, &gateway.encode()).await;
        assert!(
            error.to_string().contains("gateway requests are not supported"),
            "{error}"
        );
    });
}

#[test]
fn a_transport_header_reaches_ports_of_the_proxy_only_by_a_server() {
    run(async || {
        let web = Web::new();
        for port in [4140, 4190, 4191] {
            let header = Header::port(port.try_into().expect("not 0"), None).encode();
            let mut default = open(detect());
            default.labels.insert("kind".into(), "default".into());
            web.script.inbound(port, default);
            let error = direct(&web, Alpn::TransportHeader, &header).await;
            assert!(
                matches!(error, Error::Direct(DirectError::OwnPort(_))),
                "{port}: {error}"
            );
            // Nothing listens there in this test.
            web.script.inbound(port, open(detect()));
            let error = direct(&web, Alpn::TransportHeader, &header).await;
            assert!(matches!(error, Error::Connect(_)), "{port}: {error}");
        }
    });
}

#[test]
fn direct_connections_require_identity_and_transport_header() {
    run(async || {
        let web = Web::new();
        let error = direct(&web, Alpn::None, b"x").await;
        assert!(
            matches!(error, Error::Direct(DirectError::NoTransportHeader)),
            "{error}"
        );
        let stranger = web.without_leaf();
        let error = why(&web, DIRECT, async |io| {
            let web = TlsIdentity::dns(WEB).expect("an id");
            let _ = stranger
                .connect(io, &web, Alpn::TransportHeader)
                .await
                .expect("a handshake");
        })
        .await;
        assert!(matches!(error, Error::Direct(DirectError::NoClientId)), "{error}");
        let error = why(&web, DIRECT, async |mut io| {
            io.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("open");
        })
        .await;
        assert!(matches!(error, Error::Direct(DirectError::NoTls)), "{error}");
    });
}

#[test]
fn closes_silent_clients() {
    run(async || {
        let web = Web::new();
        web.script.inbound(8080, open(detect()));
        let error = why(&web, "127.0.0.1:8080", async |mut io| {
            assert!(matches!(
                timeout(SOON, io.read(&mut [0; 8])).await.expect("in time"),
                Ok(0)
            ));
        })
        .await;
        assert!(matches!(error, Error::TlsDetectTimeout), "{error}");
        let error = why(&web, "127.0.0.1:8080", async |_| {}).await;
        assert!(matches!(error, Error::Closed), "{error}");
    });
}

#[test]
fn rejection_has_the_form_of_the_client_protocol() {
    run(async || {
        let web = Web::new();
        let app = "127.0.0.1:9".parse().expect("valid");
        web.script.inbound(9, policy(detect(), Vec::new()));
        let response = get(web.connect(app).await, request("/")).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert_eq!(response.headers()["content-length"], "0");
        assert!(
            !response.headers().contains_key(headers::L5D_PROXY_ERROR),
            "unauthenticated clients get no reason"
        );

        let io = web.connect_tls(app, Alpn::None).await;
        let mut mesh = client::http2(io, &Http2Params::default()).await.expect("a connection");
        let grpc = || Request::post("http://web/a.B/C").header("content-type", "application/grpc");
        let response = mesh
            .send(&mut grpc().body(Body::Empty).expect("valid"))
            .await
            .expect("an answer");
        assert_eq!(
            (response.status(), &response.headers()["grpc-status"]),
            (StatusCode::OK, &"7".parse().unwrap())
        );
        let reason = response.headers()[headers::L5D_PROXY_ERROR].to_str().expect("text");
        assert!(reason.contains("unauthorized"), "{reason}");
        let mut carried = grpc()
            .header(headers::L5D_ORIG_PROTO, "HTTP/1.1")
            .body(Body::Empty)
            .expect("valid");
        let response = mesh.send(&mut carried).await.expect("an answer");
        assert_eq!(
            response.status(),
            StatusCode::FORBIDDEN,
            "HTTP/1 gets the HTTP form, whatever it rides in"
        );
        assert_eq!(web.count("inbound_http_authz_deny_total", &[]), 3);

        let known = Authentication::TlsAuthenticated {
            identities: vec![API.parse().expect("an id")],
            suffixes: vec![],
        };
        web.script.inbound(9, policy(detect(), vec![authorization(known)]));
        let response = mesh
            .send(&mut grpc().body(Body::Empty).expect("valid"))
            .await
            .expect("an answer");
        assert_eq!(
            response.headers()["grpc-status"],
            "14",
            "now the application is asked, and is not there"
        );
    });
}

#[test]
fn marks_requests_that_never_arrived_for_meshed_clients_only() {
    run(async || {
        let web = Web::new();
        let gone = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port")
            .local_addr()
            .expect("bound");
        web.script.inbound(gone.port(), open(detect()));
        let response = get(web.connect(gone).await, request("/")).await;
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        assert!(!response.headers().contains_key(headers::MESH_NEVER_ARRIVED));
        let io = web.connect_tls(gone, Alpn::None).await;
        let mut mesh = client::http1(io).await.expect("a connection");
        let response = mesh.send(&mut request("/")).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(response.headers()[headers::MESH_NEVER_ARRIVED], "true");
        assert_eq!(response.headers()[headers::L5D_PROXY_CONNECTION], "close");
        let reason = response.headers()[headers::L5D_PROXY_ERROR].to_str().expect("text");
        assert!(reason.contains("cannot connect"), "{reason}");
        let failures = ["status_code=\"502\"", "classification=\"failure\"", "error=\"i/o\""];
        assert_eq!(web.count("response_total", &failures), 2);
    });
}

#[test]
fn rejects_malformed_requests_and_requests_without_a_host() {
    run(async || {
        let web = Web::new();
        web.script.inbound(
            9,
            open(ServerProtocol::Http1 {
                routes: Vec::new(),
                rate_limit: None,
            }),
        );
        let answer = async |text: &str, target: &str| {
            let mut io = web.connect(target.parse().expect("valid")).await;
            io.write_all(text.as_bytes()).await.expect("open");
            let mut line = [0; 12];
            timeout(SOON, io.read_exact(&mut line))
                .await
                .expect("in time")
                .expect("an answer");
            String::from_utf8_lossy(&line[9..]).into_owned()
        };
        assert_eq!(
            answer("GET web:80 HTTP/1.1\r\nhost: web\r\n\r\n", "127.0.0.1:9").await,
            "400"
        );
        assert_eq!(answer("CONNECT web:80 HTTP/1.0\r\n\r\n", "127.0.0.1:9").await, "400");

        let mut io = web
            .connect_tls(DIRECT.parse().expect("valid"), Alpn::TransportHeader)
            .await;
        let header = Header::port(9.try_into().expect("not 0"), Some(SessionProtocol::Http1)).encode();
        io.write_all(&header).await.expect("open");
        let mut mesh = client::http1(io).await.expect("a connection");
        let mut nameless = Request::builder()
            .version(::http::Version::HTTP_10)
            .uri("/")
            .body(Body::Empty)
            .expect("valid");
        let response = mesh.send(&mut nameless).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()[headers::L5D_PROXY_ERROR], "unexpected error");
        response.into_body().collect().await.expect("a body");
    });
}

#[test]
fn rejects_other_hosts() {
    run(async || {
        let mut web = Web::new();
        let worker = std::rc::Rc::get_mut(&mut web.worker).expect("the only handle");
        worker.config.local_ips = vec!["10.1.1.1".parse().expect("valid")];
        let error = why(&web, "127.0.0.1:8080", async |_| {}).await;
        assert!(matches!(error, Error::NotLocal(_)), "{error}");
    });
}

#[test]
fn forwards_reset_reasons_of_the_application() {
    run(async || {
        let web = Web::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let app = listener.local_addr().expect("bound");
        let reasons = [h2::Reason::ENHANCE_YOUR_CALM, h2::Reason::REFUSED_STREAM];
        tokio::task::spawn_local(async move {
            let (socket, _) = listener.accept().await.expect("a client");
            let mut connection = h2::server::handshake(socket).await.expect("a client");
            for reason in reasons {
                let (_, mut respond) = connection.accept().await.expect("a request").expect("no error");
                respond.send_reset(reason);
            }
            let _ = connection.accept().await;
        });
        web.script.inbound(app.port(), open(detect()));
        let io = web.connect_tls(app, Alpn::None).await;
        let mut mesh = client::http2(io, &Http2Params::default()).await.expect("a connection");
        for reason in reasons {
            let mut request = Request::get("http://web/").body(Body::Empty).expect("valid");
            let failed = mesh.send(&mut request).await.expect_err("a reset");
            assert_eq!(failed.error.h2_reason(), Some(reason));
            assert_eq!(failed.never_arrived(), reason == h2::Reason::REFUSED_STREAM);
        }
        assert_eq!(
            web.count("response_total", &["status_code=\"\"", "classification=\"failure\""]),
            2
        );
    });
}

/// Collects the text of log lines.
#[derive(Clone, Default)]
struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        std::io::Write::write(&mut *self.0.lock().expect("no panic"), bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn denials_are_logged_with_reason_server_route_and_client() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    run(async || {
        let web = Web::new();
        let app = "127.0.0.1:9".parse().expect("valid");
        web.script.inbound(9, policy(detect(), Vec::new()));
        let io = web.connect_tls(app, Alpn::None).await;
        let mut mesh = client::http1(io).await.expect("a connection");
        let response = mesh.send(&mut request("/")).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        web.script.inbound(9, policy(ServerProtocol::Opaque, Vec::new()));
        let mut io = web.connect(app).await;
        let _ = timeout(SOON, io.read(&mut [0; 8])).await.expect("in time");
    });
    let text = String::from_utf8(log.0.lock().expect("no panic").clone()).expect("text");
    let line = |event: &str| text.lines().find(|line| line.contains(event)).expect(event).to_owned();
    let request = line("Request denied");
    for field in [
        " INFO ",
        "reason=\"unauthorized\"",
        "server.name=\"web\"",
        "route.name=\"default\"",
        &format!("client.id=\"{API}\""),
        "client.ip=10.0.0.9",
    ] {
        assert!(request.contains(field), "{field}: {request}");
    }
    assert!(line("Connection denied").contains("reason=\"unauthorized\""));
}

#[test]
fn routes_of_traffic_targets_add_up_and_others_do_not() {
    run(async || {
        let web = Web::new();
        let app = http1_app(echo).await;
        let nobody = Authentication::TlsAuthenticated {
            identities: Vec::new(),
            suffixes: Vec::new(),
        };
        let route = |group: &str, path: &str, method, authentication| Route {
            meta: Meta::resource(group, "HTTPRouteGroup", "", "api"),
            hosts: Vec::new(),
            rules: vec![Rule {
                matches: vec![HttpMatch {
                    path: Some(PathMatch::Regex(Pattern::anchored(path).expect("valid"))),
                    method,
                    ..HttpMatch::default()
                }],
                filters: Vec::new(),
                action: Action,
            }],
            authorizations: vec![authorization(authentication)],
        };
        // The method makes the second the best match of the two.
        let routes = |group| ServerProtocol::Detect {
            timeout: None,
            routes: vec![
                route(group, "/a.*", None, Authentication::Unauthenticated),
                route(group, "/ab", Some(::http::Method::GET), nobody.clone()),
                catch_all(),
            ],
            rate_limit: None,
        };
        let status = async |path| get(web.connect(app).await, request(path)).await.status().as_u16();
        web.script
            .inbound(app.port(), policy(routes(ADDITIVE_GROUP), Vec::new()));
        assert_eq!((status("/a").await, status("/ab").await), (200, 200));
        assert_eq!((status("/b").await, status("/%61b/..%2fb").await), (403, 403));
        assert_eq!(
            web.count("inbound_http_authz_deny_total", &["route_name=\"default\""]),
            2,
            "a denial names the best match"
        );
        web.script
            .inbound(app.port(), policy(routes("gateway.networking.k8s.io"), Vec::new()));
        assert_eq!((status("/a").await, status("/ab").await), (200, 403));
    });
}
