//! Endpoints of the proxy, in plaintext and in mesh TLS.

use std::net::SocketAddr;

use proxy_model::TlsIdentity;
use proxy_process::admin::Readiness;
use proxy_tls::{Anchors, Credentials};
use tests_harness::Pki;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::*;

mod attacks;

const WEB: &str = "web.emoji.serviceaccount.identity.linkerd.cluster.local";

/// A process has one log, which all tests share.
static LOG: std::sync::LazyLock<log::Handle> =
    std::sync::LazyLock::new(|| log::init("off", log::Format::Plain).expect("the first"));

struct Served {
    addr: SocketAddr,
    tls: Tls,
    stop: CancellationToken,
    pki: Pki,
}

fn workload(pki: &Pki, name: &str) -> Tls {
    let tls = Tls::new(
        name.parse().expect("an id"),
        Anchors::from_pem(&pki.anchors_pem()).expect("anchors"),
    );
    let tls = tls.expect("anchors");
    let made = pki.credentials(name);
    let credentials = Credentials::new(
        made.leaf_der,
        made.intermediates_der,
        made.key_pkcs8_der,
        made.valid_until,
    );
    tls.publish(&credentials).expect("accepted");
    tls
}

/// State of a proxy with the default policy.
pub(super) fn state() -> AdminState {
    let ((discovery, script), metrics) = (Discovery::scripted(), Metrics::default());
    let addr: SocketAddr = "10.9.0.2:4191".parse().expect("an address");
    script.inbound(addr.port(), tests_harness::values::all_unauthenticated());
    AdminState {
        log: LOG.clone(),
        environment: Arc::default(),
        shutdown: None,
        gate: Gate {
            policy: discovery.inbound(addr.port()),
            metrics: metrics.recorder(),
            target: addr.into(),
        },
        discovery,
    }
}

async fn serving(with_shutdown: bool) -> Served {
    let (pki, stop) = (Pki::new(), CancellationToken::new());
    let tls = workload(&pki, WEB);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    let environment = [("A", "1"), ("B", "2")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let parts = AdminState {
        environment: Arc::new(environment.into()),
        shutdown: with_shutdown.then(|| stop.clone()),
        ..state()
    };
    parts.discovery.inbound(8080);
    let gate = parts.gate.clone();
    let admin = Admin::new(Readiness::default(), String::new).with(router(parts));
    let server = Server {
        admin,
        tls: tls.clone(),
        metrics: Metrics::default(),
        gate,
    };
    tokio::spawn(server.serve(listener, CancellationToken::new()));
    Served { addr, tls, stop, pki }
}

async fn exchange<I: AsyncRead + AsyncWrite + Unpin>(mut io: I, request: &str) -> String {
    io.write_all(request.as_bytes()).await.expect("open");
    io.flush().await.expect("open");
    let mut answer = Vec::new();
    // A peer that closes without TLS' goodbye has answered all the same.
    let _ = io.read_to_end(&mut answer).await;
    String::from_utf8(answer).expect("text")
}

fn request(method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost:4191\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

impl Served {
    async fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let socket = TcpStream::connect(self.addr).await.expect("serves");
        exchange(socket, &request(method, path, body)).await
    }
}

#[tokio::test]
async fn shows_the_environment_and_lookups() {
    let served = serving(false).await;
    let all = served.ask("GET", "/env.json", "").await;
    assert!(all.ends_with("{\"A\":\"1\",\"B\":\"2\"}"), "{all}");
    assert!(served.ask("GET", "/env.json?B&C", "").await.ends_with("{\"B\":\"2\"}"));
    let lookups = served.ask("GET", "/discovery.json", "").await;
    assert!(
        lookups.contains(
            "\"kind\":\"inbound\",\"target\":\"8080\",\"live\":false,\"remembered\":false,\"age_seconds\":null"
        ),
        "{lookups}"
    );
}

#[tokio::test]
async fn rejects_requests_that_a_name_or_a_page_led_here() {
    let served = serving(true).await;
    for host in ["attacker.example", "localhost\r\norigin: http://attacker.example"] {
        for (method, path) in [
            ("POST", "/shutdown"),
            ("PUT", "/proxy-log-level"),
            ("GET", "/proxy-log-level"),
            ("GET", "/env.json"),
            ("GET", "/discovery.json"),
        ] {
            let socket = TcpStream::connect(served.addr).await.expect("serves");
            let request = request(method, path, "").replace("localhost:4191", host);
            let answer = exchange(socket, &request).await;
            assert!(answer.starts_with("HTTP/1.1 403"), "{method} {path} {host}: {answer}");
        }
    }
    assert!(!served.stop.is_cancelled());
}

#[tokio::test]
async fn shuts_down_by_post_where_enabled() {
    let served = serving(true).await;
    assert!(served.ask("GET", "/shutdown", "").await.starts_with("HTTP/1.1 405"));
    assert!(!served.stop.is_cancelled());
    assert!(served.ask("POST", "/shutdown", "").await.ends_with("shutdown\n"));
    assert!(served.stop.is_cancelled());
    let disabled = serving(false).await.ask("POST", "/shutdown", "").await;
    assert!(disabled.starts_with("HTTP/1.1 404") && disabled.ends_with("shutdown endpoint is not enabled"));
}

#[tokio::test]
async fn reads_and_changes_the_log_filter() {
    let served = serving(false).await;
    assert!(
        served
            .ask("PUT", "/proxy-log-level", "error")
            .await
            .starts_with("HTTP/1.1 204")
    );
    assert!(served.ask("GET", "/proxy-log-level", "").await.ends_with("error"));
    assert!(
        served
            .ask("PUT", "/proxy-log-level", "linkerd=loud")
            .await
            .starts_with("HTTP/1.1 400")
    );
    assert!(
        served
            .ask("DELETE", "/proxy-log-level", "")
            .await
            .starts_with("HTTP/1.1 405")
    );
}

#[tokio::test]
async fn serves_mesh_tls_to_clients_that_ask_for_the_identity() {
    let served = serving(false).await;
    let viz = workload(
        &served.pki,
        "viz.linkerd-viz.serviceaccount.identity.linkerd.cluster.local",
    );
    let socket = TcpStream::connect(served.addr).await.expect("serves");
    let io = viz
        .connect(socket, &TlsIdentity::dns(WEB).expect("an id"), Alpn::None)
        .await
        .expect("mesh TLS");
    assert!(exchange(io, &request("GET", "/live", "")).await.ends_with("live\n"));
    assert_eq!(served.tls.local_id().as_str(), WEB);

    let socket = TcpStream::connect(served.addr).await.expect("serves");
    let other = TlsIdentity {
        server_name: "other.local".into(),
        ..TlsIdentity::dns(WEB).expect("an id")
    };
    assert!(
        viz.connect(socket, &other, Alpn::None).await.is_err(),
        "the proxy does not terminate TLS for others"
    );
}
