//! Attacks on the admin port by a client that has no identity and never finishes anything.

use axum::{body::Body, http::Request};
use bytes::Bytes;
use proxy_model::ClientAddr;
use tokio::{net::TcpSocket, time::timeout};
use tower::ServiceExt as _;

use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longer than any time that the server gives a client.
const LONG: Duration = Duration::from_secs(600);

async fn connect_from(client: [u8; 4], addr: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((client, 0).into()).expect("a loopback address");
    socket.connect(addr).await.expect("accepted")
}

#[tokio::test(start_paused = true)]
async fn rejects_remote_writes_before_it_reads_the_body() {
    let parts = state();
    let remote = Extension(ClientAddr("10.0.0.1:999".parse().expect("an address")));
    let endless = Body::from_stream(futures_util::stream::pending::<Result<Bytes, io::Error>>());
    let request = Request::put("/proxy-log-level").body(endless).expect("a request");
    let answer = timeout(LONG, router(parts).layer(remote).oneshot(request)).await;
    let answer = answer.expect("no waiting for the body").expect("infallible");
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
}

#[tokio::test(start_paused = true)]
async fn rejects_log_filters_too_long_to_be_one() {
    let served = serving(false).await;
    let filter = "x".repeat(5 * 1024);
    let answer = served.ask("PUT", "/proxy-log-level", &filter).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn answers_probes_while_silent_connections_take_all_room() {
    let served = serving(false).await;
    let mut silent = Vec::new();
    for client in 2..=9 {
        for _ in 0..64 {
            let mut socket = connect_from([127, 0, 0, client], served.addr).await;
            let _ = socket.write_all(&PREFACE[..3]).await;
            silent.push(socket);
        }
    }
    let answer = timeout(Duration::from_secs(3), served.ask("GET", "/live", "")).await;
    assert!(answer.expect("in time").ends_with("live\n"));
    drop(silent);
}

#[tokio::test(start_paused = true)]
async fn closes_connections_that_fall_silent() {
    let served = serving(false).await;
    let begun = [&b""[..], b"PRI", b"GET / HTTP/1.1\r\n", PREFACE];
    for sent in begun {
        let mut socket = TcpStream::connect(served.addr).await.expect("serves");
        socket.write_all(sent).await.expect("open");
        let mut rest = Vec::new();
        let closed = timeout(LONG, socket.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "still open after {sent:?}");
    }
}

#[tokio::test]
async fn rejects_shutdown_from_other_hosts() {
    let stop = CancellationToken::new();
    let parts = AdminState {
        shutdown: Some(stop.clone()),
        ..state()
    };
    for remote in ["10.0.0.1:999", "[::ffff:10.0.0.1]:999"] {
        let remote = Extension(ClientAddr(remote.parse().expect("an address")));
        let request = Request::post("/shutdown").body(Body::empty()).expect("a request");
        let answer = router(parts.clone())
            .layer(remote)
            .oneshot(request)
            .await
            .expect("infallible");
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    }
    let unknown = Request::post("/shutdown").body(Body::empty()).expect("a request");
    let answer = router(parts).oneshot(unknown).await.expect("infallible");
    assert_eq!(answer.status(), StatusCode::FORBIDDEN, "an unknown client is not local");
    assert!(!stop.is_cancelled());
}
