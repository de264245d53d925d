//! A server from outside: drain, limits of one connection, TLS with reload.

use std::{sync::Mutex, time::Duration};

use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Notify, oneshot},
};
use tokio_rustls::TlsConnector;

use super::*;

/// Longer than any limit.
const LONG: Duration = Duration::from_secs(600);
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

struct Served {
    addr: SocketAddr,
    refused: Arc<Mutex<Vec<&'static str>>>,
    stop: CancellationToken,
    ended: tokio::task::JoinHandle<Result<(), Infallible>>,
}

async fn served(acceptor: impl Acceptor) -> Served {
    let refused = Arc::new(Mutex::new(Vec::new()));
    let names = Arc::clone(&refused);
    let server = Server::new("test", move |limit| names.lock().expect("whole").push(limit.name));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let (addr, stop) = (listener.local_addr().expect("bound"), CancellationToken::new());
    let ended = tokio::spawn(server.serve(listener, acceptor, stop.clone()));
    Served {
        addr,
        refused,
        stop,
        ended,
    }
}

impl Served {
    async fn exchange(&self, sent: &[u8]) -> String {
        let mut socket = TcpStream::connect(self.addr).await.expect("serves");
        socket.write_all(sent).await.expect("open");
        let mut answer = Vec::new();
        let read = timeout(LONG, socket.read_to_end(&mut answer)).await;
        read.expect("closed").expect("no reset");
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn refused(&self) -> Vec<&'static str> {
        self.refused.lock().expect("whole").clone()
    }
}

fn hello() -> Plain {
    let service = Router::new().route("/", get(async || "hello"));
    Plain {
        probes: service.clone(),
        service,
    }
}

#[tokio::test]
async fn a_drain_lets_requests_end() {
    let (begun, begins) = oneshot::channel();
    let (begun, go) = (Arc::new(Mutex::new(Some(begun))), Arc::new(Notify::new()));
    let wait = Arc::clone(&go);
    let slow = move || {
        let (begun, wait) = (Arc::clone(&begun), Arc::clone(&wait));
        async move {
            let begun = begun.lock().expect("whole").take().expect("one request");
            let _ = begun.send(());
            wait.notified().await;
            "done"
        }
    };
    let service = Router::new().route("/", get(slow));
    let probes = Router::new();
    let server = served(Plain { service, probes }).await;
    let mut socket = TcpStream::connect(server.addr).await.expect("serves");
    socket.write_all(GET).await.expect("open");
    begins.await.expect("a request");
    server.stop.cancel();
    go.notify_one();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.ends_with("done"), "{answer}");
    server.ended.await.expect("no panic").expect("infallible");
    assert!(TcpStream::connect(server.addr).await.is_err(), "it listens no more");
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_closed_and_counted() {
    let server = served(hello()).await;
    assert_eq!(server.exchange(b"PRI").await, "");
    assert_eq!(server.refused(), ["SERVER_FIRST_BYTES"]);
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_head_is_closed_and_counted() {
    let server = served(hello()).await;
    server.exchange(b"GET / HTTP/1.1\r\nhost: a\r\n").await;
    assert_eq!(server.refused(), ["SERVER_HEAD"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_no_ping_is_closed_and_counted() {
    let server = served(hello()).await;
    let request = b"\0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01a";
    let begun = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    server.exchange(&[&begun[..], request].concat()).await;
    assert_eq!(server.refused(), ["SERVER_PING_TIMEOUT"]);
}

/// An HTTP/2 client that answers PINGs.
async fn http2(
    addr: SocketAddr,
) -> (
    hyper::client::conn::http2::SendRequest<String>,
    impl Future<Output = hyper::Result<()>>,
) {
    let socket = TcpStream::connect(addr).await.expect("serves");
    hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
        .await
        .expect("HTTP/2")
}

#[tokio::test(start_paused = true)]
async fn closes_connections_without_requests() {
    let server = served(hello()).await;
    let (send, connection) = http2(server.addr).await;
    let _ = timeout(LONG, connection).await.expect("closed");
    assert_eq!(server.refused(), ["SERVER_FIRST_CALL"]);
    drop(send);

    let (mut send, connection) = http2(server.addr).await;
    let connection = tokio::spawn(connection);
    let request = hyper::Request::get("http://a/").body(String::new()).expect("a request");
    let answer = send.send_request(request).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    drop(answer);
    let began = tokio::time::Instant::now();
    let _ = timeout(LONG, connection).await.expect("closed");
    assert!(began.elapsed() >= limits::SERVER_IDLE.value, "{:?}", began.elapsed());
    assert_eq!(server.refused()[1..], ["SERVER_IDLE"]);
}

#[tokio::test(start_paused = true)]
async fn drops_unread_responses() {
    let large = || {
        let service = Router::new().route("/", get(async || vec![b'x'; 16 << 20]));
        let probes = Router::new();
        Plain { service, probes }
    };
    let server = served(large()).await;
    let mut unread = TcpStream::connect(server.addr).await.expect("serves");
    unread.write_all(GET).await.expect("open");
    tokio::time::sleep(LONG).await;
    assert_eq!(server.refused(), ["SERVER_WRITE"]);

    let server = served(large()).await;
    let (mut send, connection) = http2(server.addr).await;
    let connection = tokio::spawn(connection);
    let request = hyper::Request::get("http://a/").body(String::new()).expect("a request");
    let unread = send.send_request(request).await.expect("an answer");
    let _ = timeout(LONG, connection).await.expect("closed");
    assert_eq!(server.refused(), ["SERVER_CALL"]);
    drop(unread);
}

#[tokio::test]
async fn heads_beyond_the_limits_are_rejected() {
    let server = served(hello()).await;
    let many = "x: 1\r\n".repeat(limits::SERVER_HEADERS.value);
    let answer = server
        .exchange(format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n").as_bytes())
        .await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn tls_serves_with_the_certificate_in_force() {
    let (publish, config) = watch::channel(None);
    let server = served(Secure { config, plain: hello() }).await;
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connect = async || {
        let socket = TcpStream::connect(server.addr).await.expect("serves");
        let name = "localhost".try_into().expect("a name");
        TlsConnector::from(Arc::new(client.clone())).connect(name, socket).await
    };
    assert!(connect().await.is_err(), "no certificate yet");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("a pair");
    publish.send_replace(Some(Arc::new(config)));
    let mut stream = connect().await.expect("TLS");
    stream.write_all(GET).await.expect("open");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.ends_with(b"hello"));
}

/// Connections with TLS to a router.
struct Secure {
    config: watch::Receiver<Option<Arc<ServerConfig>>>,
    plain: Plain,
}

impl Acceptor for Secure {
    type Service = TowerToHyperService<Router>;

    async fn accept(&self, socket: TcpStream, client: Client) -> io::Result<(AnyIo, Self::Service)> {
        let stream = accept_tls(socket, &self.config).await?;
        Ok((Box::new(stream), self.plain.service(client)))
    }
}
