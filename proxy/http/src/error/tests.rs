//! Every way to lose a request, over in-memory connections: did it arrive?

use bytes::Bytes;
use http::{Request, Version};
use proxy_metrics::Metrics;
use proxy_model::{Http2Params, defaults};
use proxy_transport::ObservedTcp;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    net::TcpStream,
    task::{LocalSet, spawn_local},
};

use crate::{Body, SendError, client, pool::Http1Pool};

fn request(version: Version) -> Request<Body> {
    let uri = if version == Version::HTTP_2 { "http://web/" } else { "/" };
    Request::builder()
        .method("POST")
        .uri(uri)
        .version(version)
        .header("host", "web")
        .body(Body::Empty)
        .expect("valid")
}

/// Sends a request over HTTP/2 to a peer that runs `serve`; it must fail.
async fn http2_fails(serve: impl AsyncFnOnce(DuplexStream) + 'static) -> SendError {
    let (near, far) = duplex(64 * 1024);
    spawn_local(serve(far));
    let mut client = client::http2(near, &Http2Params::default())
        .await
        .expect("a connection");
    client.send(&mut request(Version::HTTP_2)).await.expect_err("it fails")
}

async fn reset(io: DuplexStream, reason: h2::Reason) {
    let mut connection = h2::server::handshake(io).await.expect("a client");
    let (_, mut respond) = connection.accept().await.expect("a request").expect("no error");
    respond.send_reset(reason);
    let _ = connection.accept().await;
}

const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// Builds a GOAWAY frame with the last processed stream and no error.
fn go_away(last: u8) -> Vec<u8> {
    let mut frame = vec![0, 0, 8, 7, 0, 0, 0, 0, 0];
    frame.extend([0, 0, 0, last, 0, 0, 0, 0]);
    frame
}

/// Waits for the client's HEADERS, then sends GOAWAY and closes.
async fn leave(mut io: DuplexStream, last: u8) {
    io.write_all(&SETTINGS).await.expect("open");
    let mut got = Vec::new();
    while !has_headers(&got) {
        io.read_buf(&mut got).await.expect("open");
    }
    io.write_all(&go_away(last)).await.expect("open");
}

/// Returns true if a HEADERS frame follows the preface.
fn has_headers(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(24..).unwrap_or_default();
    while let [a, b, c, kind, ..] = *rest {
        if kind == 1 {
            return true;
        }
        rest = rest
            .get(9 + (usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c))..)
            .unwrap_or_default();
    }
    false
}

#[tokio::test]
async fn http2_errors_tell_whether_a_stream_was_processed() {
    let test = async {
        let failed = http2_fails(async |io| reset(io, h2::Reason::REFUSED_STREAM).await).await;
        assert!(failed.never_arrived(), "{failed:?}");
        let failed = http2_fails(async |io| reset(io, h2::Reason::INTERNAL_ERROR).await).await;
        assert!(!failed.never_arrived(), "{failed:?}");
        assert_eq!(failed.error.h2_reason(), Some(h2::Reason::INTERNAL_ERROR));
        let failed = http2_fails(async |io| leave(io, 0).await).await;
        assert!(failed.never_arrived(), "{failed:?}");
        let failed = http2_fails(async |io| leave(io, 1).await).await;
        assert!(!failed.never_arrived(), "the peer processed it: {failed:?}");
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn http2_returns_requests_that_a_closed_connection_did_not_send() {
    let test = async {
        let (near, far) = duplex(64 * 1024);
        let mut client = client::http2(near, &Http2Params::default())
            .await
            .expect("a connection");
        drop(far);
        let failed = client.send(&mut request(Version::HTTP_2)).await.expect_err("it fails");
        while !client.is_closed() {
            tokio::task::yield_now().await;
        }
        let later = client.send(&mut request(Version::HTTP_2)).await.expect_err("it fails");
        assert!(later.not_sent && later.never_arrived(), "{later:?} after {failed:?}");
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn http1_returns_only_requests_it_did_not_begin_to_write() {
    let test = async {
        let (near, far) = duplex(64 * 1024);
        let mut client = client::http1(near).await.expect("a connection");
        drop(far);
        let failed = client.send(&mut request(Version::HTTP_11)).await.expect_err("it fails");
        assert!(failed.not_sent && failed.never_arrived(), "closed earlier: {failed:?}");

        let (near, mut far) = duplex(64 * 1024);
        let mut client = client::http1(near).await.expect("a connection");
        spawn_local(async move {
            far.read_u8().await.expect("a request");
        });
        let failed = client.send(&mut request(Version::HTTP_11)).await.expect_err("it fails");
        assert!(!failed.not_sent && !failed.never_arrived(), "it was read: {failed:?}");
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn request_that_crosses_the_close_of_an_idle_connection_is_proven_unread() {
    let test = async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let io = ObservedTcp::new(TcpStream::connect(addr).await.expect("it listens"));
        let (mut far, _) = listener.accept().expect("a connection");
        let close_observer = io.close_observer();
        let client = client::http1(io).await.expect("a connection");
        let pool = Http1Pool::new(defaults::POOL_IDLE, Metrics::default().recorder());
        let lease = pool.lease(client.with_close_observer(Some(close_observer)));
        let post = || request(Version::HTTP_11).map(|_| Body::Full(Bytes::from_static(b"hello")));
        let server = std::thread::spawn(move || {
            let mut read = Vec::new();
            while !read.ends_with(b"hello") {
                let mut chunk = [0; 4096];
                let n = std::io::Read::read(&mut far, &mut chunk).expect("a request");
                read.extend_from_slice(&chunk[..n]);
            }
            std::io::Write::write_all(&mut far, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").expect("open");
            far
        });
        drop(lease.send(&mut post()).await.expect("an answer"));
        let far = server.join().expect("no panic");
        let idle = loop {
            match pool.checkout() {
                Some(lease) => break lease,
                None => tokio::task::yield_now().await,
            }
        };
        // The rest happens before this thread looks at its sockets again.
        drop(far);
        let failed = idle.send(&mut post()).await.expect_err("the server is gone");
        assert!(failed.never_arrived(), "{failed:?}");
    };
    LocalSet::new().run_until(test).await;
}
