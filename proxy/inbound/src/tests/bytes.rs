//! Opaque connections through the inbound side.

use std::net::SocketAddr;

use proxy_model::{Authentication, ServerProtocol, TlsIdentity};
use proxy_tls::Alpn;
use proxy_transport::header::Header;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::spawn_local,
    time::timeout,
};

use super::support::{API, SOON, Web, authorization, detect, open, policy, run};

/// An application that speaks first, and then echoes.
async fn greeter() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    spawn_local(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            spawn_local(async move {
                socket.write_all(b"hello\n").await.expect("open");
                let (mut read, mut write) = socket.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    addr
}

async fn talk(mut io: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) {
    let mut greeting = [0; 6];
    timeout(SOON, io.read_exact(&mut greeting))
        .await
        .expect("in time")
        .expect("open");
    assert_eq!(&greeting, b"hello\n");
    io.write_all(b"\x16\x03\x01ping").await.expect("open");
    io.shutdown().await.expect("open");
    let mut rest = Vec::new();
    timeout(SOON, io.read_to_end(&mut rest))
        .await
        .expect("in time")
        .expect("open");
    assert_eq!(rest, b"\x16\x03\x01ping");
}

#[test]
fn server_may_speak_first_on_an_opaque_port() {
    run(async || {
        let web = Web::new();
        let app = greeter().await;
        web.script.inbound(app.port(), open(ServerProtocol::Opaque));
        talk(web.connect(app).await).await;
        assert_eq!(
            web.count("inbound_tcp_authz_allow_total", &["no_tls_reason=\"port_skipped\""]),
            1
        );
        assert_eq!(web.count("tcp_write_bytes_total", &["peer=\"src\""]), 13);
        assert_eq!(web.count("tcp_read_bytes_total", &["peer=\"src\""]), 7);
    });
}

#[test]
fn forwards_bytes_after_a_transport_header() {
    run(async || {
        let web = Web::new();
        let app = greeter().await;
        web.script.inbound(app.port(), open(ServerProtocol::Opaque));
        let mut io = web
            .connect_tls("127.0.0.1:4143".parse().expect("valid"), Alpn::TransportHeader)
            .await;
        let header = Header::port(app.port().try_into().expect("not 0"), None).encode();
        // In two parts, the second with the session's first bytes.
        io.write_all(&header[..25]).await.expect("open");
        io.flush().await.expect("open");
        io.write_all(&header[25..]).await.expect("open");
        talk(io).await;
        assert_eq!(
            web.count(
                "inbound_tcp_transport_header_connections_total",
                &["session_protocol=\"\""]
            ),
            1
        );
    });
}

#[test]
fn forwards_non_http_bytes_unchanged() {
    run(async || {
        let web = Web::new();
        let app = greeter().await;
        web.script.inbound(app.port(), open(detect()));
        let mut io = web.connect(app).await;
        io.write_all(b"QUIT\r\n").await.expect("open");
        io.shutdown().await.expect("open");
        let mut got = Vec::new();
        timeout(SOON, io.read_to_end(&mut got))
            .await
            .expect("in time")
            .expect("open");
        assert_eq!(got, b"hello\nQUIT\r\n");
    });
}

#[test]
fn rejects_unauthorized_and_disconnects_revoked_clients() {
    run(async || {
        let web = Web::new();
        let app = greeter().await;
        let meshed = || {
            policy(
                ServerProtocol::Opaque,
                vec![authorization(Authentication::TlsUnauthenticated)],
            )
        };
        web.script.inbound(app.port(), meshed());
        let mut io = web.connect(app).await;
        let refused = timeout(SOON, io.read(&mut [0; 8])).await.expect("in time");
        assert_eq!(refused.expect_err("reset").kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(web.count("inbound_tcp_authz_deny_total", &["srv_name=\"web\""]), 1);

        web.script.inbound(app.port(), open(ServerProtocol::Opaque));
        let mut io = web.connect(app).await;
        let mut greeting = [0; 6];
        timeout(SOON, io.read_exact(&mut greeting))
            .await
            .expect("in time")
            .expect("open");
        web.script.inbound(app.port(), meshed());
        assert!(
            timeout(SOON, io.read(&mut greeting)).await.expect("in time").is_err(),
            "cut off"
        );
        assert_eq!(web.count("inbound_tcp_authz_terminate_total", &[]), 1);
    });
}

#[test]
fn http_port_rejects_opaque_bytes() {
    run(async || {
        let web = Web::new();
        let app = greeter().await;
        web.script.inbound(
            app.port(),
            open(ServerProtocol::Http1 {
                routes: Vec::new(),
                rate_limit: None,
            }),
        );
        let mut io = web
            .connect_tls("127.0.0.1:4143".parse().expect("valid"), Alpn::TransportHeader)
            .await;
        let header = Header::port(app.port().try_into().expect("not 0"), None).encode();
        io.write_all(&header).await.expect("open");
        let got = timeout(SOON, io.read(&mut [0; 8])).await.expect("in time");
        assert!(got.is_err() || matches!(got, Ok(0)), "closed without a byte");
        assert_eq!(web.count("inbound_tcp_authz_deny_total", &[]), 1);
    });
}

#[test]
fn application_tls_passes_untouched() {
    run(async || {
        let web = Web::new();
        let app = greeter().await;
        web.script.inbound(app.port(), open(detect()));
        let io = web.connect(app).await;
        let other = TlsIdentity::dns("other.example.com").expect("an id");
        // The application is not a TLS server: it answers the ClientHello with its greeting, which is not a handshake.
        let refused = web.workload(API).connect(io, &other, Alpn::None).await;
        assert!(refused.is_err());
        assert_eq!(
            web.count("tcp_open_total", &["peer=\"src\"", "tls=\"opaque\",sni=\"other\""]),
            1
        );
        assert_eq!(
            web.count("inbound_tcp_detect_http_results_total", &["result=\"not_http\""]),
            1
        );
    });
}

#[test]
fn a_truncated_stream_is_reset_and_not_ended() {
    run(async || {
        let web = Web::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let app = listener.local_addr().expect("bound");
        web.script.inbound(app.port(), open(detect()));
        let mut io = web.connect_tls(app, Alpn::None).await;
        io.write_all(b"QUIT\r\n").await.expect("open");
        io.flush().await.expect("open");
        let (mut socket, _) = listener.accept().await.expect("a connection");
        let mut got = [0; 6];
        socket.read_exact(&mut got).await.expect("open");
        // Without a close_notify.
        drop(io);
        let end = timeout(SOON, socket.read(&mut got)).await.expect("in time");
        assert_eq!(end.expect_err("a reset").kind(), std::io::ErrorKind::ConnectionReset);
    });
}
