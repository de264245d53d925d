//! Hostile servers against one connection of the clients.

use http::Request;
use proxy_model::{Http2Params, Reason, limits};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    task::{LocalSet, spawn_local},
    time::Instant,
};

use super::*;
use crate::server::tests::{
    Endless,
    frames::{MAX_CONCURRENT_STREAMS, settings},
};

/// Longer than any limit: the clock is paused.
const LONG: std::time::Duration = std::time::Duration::from_secs(3600);

fn get(uri: &str) -> Request<Body> {
    let request = Request::builder().uri(uri).header("host", "web");
    request.body(Body::Empty).expect("valid")
}

/// Sends a request to a server that answers with these bytes, then with `more` without end; it must fail.
async fn http1_fails(answer: Vec<u8>, more: &'static [u8]) -> (SendError, usize) {
    let (near, far) = tokio::io::duplex(16 * 1024);
    let (mut read, mut write) = tokio::io::split(far);
    let mut client = http1(near).await.expect("a connection");
    let sending = spawn_local(async move {
        let _ = read.read(&mut [0; 1024]).await;
        let _ = write.write_all(&answer).await;
        let mut sent = 0;
        while !more.is_empty() && sent < 4 << 20 && write.write_all(more).await.is_ok() {
            sent += more.len();
        }
        let _ = read.read(&mut [0; 1024]).await;
        sent
    });
    let mut request = get("/");
    let answer = tokio::time::timeout(LONG, client.send(&mut request)).await;
    let failed = answer.expect("in time").expect_err("it fails");
    drop(client);
    (failed, sending.await.expect("no panic"))
}

#[tokio::test(start_paused = true)]
async fn head_of_a_response_is_limited_in_bytes_and_fields() {
    let test = async {
        let begun = b"HTTP/1.1 200 OK\r\nx: ".to_vec();
        let (failed, sent) = http1_fails(begun, &[b'a'; 1024]).await;
        assert!(sent < 3 * limits::HTTP1_HEAD_BYTES.value, "{sent} bytes taken");
        let (limit, reason) = failed.error.limit().expect("a limit");
        assert_eq!((limit.name, reason), ("HTTP1_HEAD_BYTES", Reason::ResponseHeadTooLarge));
        let fields = "a: b\r\n".repeat(limits::HTTP1_HEADERS.value + 1);
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        let (failed, _) = http1_fails(answer.into_bytes(), b"").await;
        assert!(failed.error.limit().is_some(), "{failed:?}");
    };
    LocalSet::new().run_until(test).await;
}

/// Connects to a server that allows this many streams and answers none.
async fn refusing(streams: u32) -> (Http2, DuplexStream) {
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    let client = http2(near, &Http2Params::default()).await.expect("a connection");
    far.write_all(&settings(&[(MAX_CONCURRENT_STREAMS, streams)]))
        .await
        .expect("open");
    // The client has to see it.
    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    (client, far)
}

#[tokio::test(start_paused = true)]
async fn request_waits_for_a_stream_no_longer_than_its_time() {
    let test = async {
        let (mut client, _far) = refusing(0).await;
        let began = Instant::now();
        let sent = tokio::time::timeout(LONG, async { client.send(&mut get("http://web/")).await }).await;
        let failed = sent.expect("in time").expect_err("it fails");
        assert_eq!(began.elapsed().as_secs(), limits::HTTP2_STREAM_WAIT.value.as_secs());
        assert!(failed.never_arrived(), "{failed:?}");
        let (limit, reason) = failed.error.limit().expect("a limit");
        assert_eq!((limit.name, reason), ("HTTP2_STREAM_WAIT", Reason::NoStream));
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn request_with_a_stream_waits_for_its_answer() {
    let test = async {
        let (client, _far) = refusing(1).await;
        let mut first = client.clone();
        let waiting = spawn_local(async move { first.send(&mut get("http://web/")).await.map(drop) });
        tokio::time::sleep(limits::HTTP2_STREAM_WAIT.value * 10).await;
        assert!(!waiting.is_finished(), "the route decides");
        let mut second = client.clone();
        let failed = second
            .send(&mut get("http://web/"))
            .await
            .expect_err("no stream is left");
        assert!(matches!(failed.error, Error::NoStream), "{failed:?}");
        assert!(!waiting.is_finished());
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn bodies_that_servers_do_not_read_are_bounded_together() {
    let test = async {
        let metrics = proxy_metrics::Metrics::default();
        crate::budget::set(1 << 20, metrics.recorder());
        let mut sent = Vec::new();
        for _ in 0..100 {
            let (near, far) = tokio::io::duplex(16 * 1024);
            let mut client = http1(near).await.expect("a connection");
            let body = Endless::default();
            let mut upload = get("/").map(|_| Body::boxed(body.clone()));
            *upload.method_mut() = http::Method::POST;
            let uploading = spawn_local(async move { client.send(&mut upload).await.map(drop) });
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            assert!(
                body.produced() <= 3 * limits::HTTP1_BUFFER_BYTES.value,
                "{}",
                body.produced()
            );
            sent.push((uploading, far));
        }
        let open = sent.iter().filter(|(uploading, _)| !uploading.is_finished()).count();
        assert!((1..=10).contains(&open), "{open} open");
        let counted = format!("mesh_limit_refused_total{{limit=\"BUFFERED_BYTES\"}} {}\n", 100 - open);
        assert!(metrics.render().contains(&counted), "{}", metrics.render());
    };
    LocalSet::new().run_until(test).await;
}
