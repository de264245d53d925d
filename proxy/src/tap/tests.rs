//! Authorization of tap, and the events of requests.

use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proxy_api::{Kind, Observation, client};
use proxy_model::{
    TlsIdentity,
    tap::{Direction, TapEventKind, TapMatch, TapRequest},
};
use proxy_tls::{Alpn, Anchors, Credentials};
use tests_harness::Pki;

use super::*;
use crate::{
    control::{Channel, Connector},
    env::Service,
};

const WEB: &str = "web.emoji.serviceaccount.identity.linkerd.cluster.local";
const VIZ: &str = "mesh-viz.linkerd-viz.serviceaccount.identity.linkerd.cluster.local";

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

async fn serving(pki: &Pki) -> (std::net::SocketAddr, Registry) {
    let registry = Registry::default();
    let server = Server {
        tls: workload(pki, WEB),
        registry: registry.clone(),
        client: VIZ.parse().expect("an id"),
        next: Arc::default(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    tokio::spawn(server.serve(listener, Metrics::default(), CancellationToken::new()));
    (addr, registry)
}

/// A channel to the tap server; in plaintext without an identity of our own.
fn channel(addr: std::net::SocketAddr, tls: Option<Tls>) -> Channel {
    let server = tls.is_some().then(|| TlsIdentity::dns(WEB).expect("an id"));
    let tls = tls.unwrap_or_else(|| workload(&Pki::new(), VIZ));
    let service = Service {
        addr: addr.to_string().parse().expect("valid"),
        tls: server,
    };
    let slot = Metrics::default().control("tap", &proxy_metrics::Tls::Client(None));
    let (channel, keep_up) = Channel::new(
        Connector {
            service,
            tls,
            tcp: Default::default(),
        },
        slot,
    );
    tokio::spawn(keep_up);
    channel
}

fn everything(limit: u32) -> Observation {
    Observation {
        matches: TapMatch::All(Vec::new()),
        limit,
        headers: false,
    }
}

#[tokio::test]
async fn only_the_named_client_sees_requests() {
    let pki = Pki::new();
    let (addr, registry) = serving(&pki).await;
    for other in [Some(workload(&pki, WEB)), None] {
        let refused = client::observe(channel(addr, other), &everything(1))
            .await
            .err()
            .expect("refused");
        assert_eq!(refused.kind(), Kind::Unauthenticated, "{refused}");
    }
    assert!(!registry.is_active());

    let mut events = client::observe(channel(addr, Some(workload(&pki, VIZ))), &everything(1))
        .await
        .expect("allowed");
    while !registry.is_active() {
        tokio::task::yield_now().await;
    }
    let request = TapRequest {
        direction: Direction::Inbound,
        source: "10.0.0.1:999".parse().expect("an address"),
        source_labels: Default::default(),
        destination: "10.0.0.2:80".parse().expect("an address"),
        destination_labels: Default::default(),
        route_labels: Default::default(),
        method: http::Method::GET,
        scheme: "http".into(),
        authority: "web".into(),
        path: "/api".into(),
    };
    let mut tapped = registry.request(request, &http::HeaderMap::new()).expect("an observer");
    tapped.response(http::StatusCode::OK, &http::HeaderMap::new());
    drop(tapped);
    let first = events.next().await.expect("open").expect("an event");
    assert!(matches!(first.kind, TapEventKind::RequestInit { .. }) && first.request.path == "/api");
    let rest: Vec<_> = events.map(|event| event.expect("an event").kind).collect().await;
    assert!(matches!(
        rest[..],
        [
            TapEventKind::ResponseInit { status: 200, .. },
            TapEventKind::ResponseEnd { .. }
        ]
    ));
}

#[tokio::test]
async fn rejects_other_clients_with_upstreams_status() {
    let pki = Pki::new();
    let (addr, _) = serving(&pki).await;
    let tls = workload(&pki, "other.ns.serviceaccount.identity.linkerd.cluster.local");
    let socket = TcpStream::connect(addr).await.expect("serves");
    let io = tls
        .connect(socket, &TlsIdentity::dns(WEB).expect("an id"), Alpn::None)
        .await
        .expect("mesh TLS");
    let (mut send, driver) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io))
        .await
        .expect("HTTP/2");
    tokio::spawn(driver);
    let ask = |body: &'static [u8]| {
        http::Request::post("http://tap/io.linkerd.proxy.tap.Tap/Observe")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(bytes::Bytes::from_static(body)))
            .expect("a request")
    };
    let answer = send.send_request(ask(&[0, 0, 0, 0, 0])).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["grpc-status"], "16");
    assert_eq!(answer.headers()["grpc-message"], "Unauthorized%20client");
    let empty = send.send_request(ask(&[])).await.expect("an answer");
    let headers = empty.headers().clone();
    let trailers = empty
        .into_body()
        .collect()
        .await
        .expect("an end")
        .trailers()
        .cloned()
        .unwrap_or(headers);
    assert_eq!(trailers["grpc-status"], "13");
}
