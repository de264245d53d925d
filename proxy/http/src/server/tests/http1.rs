//! HTTP/1: heads that are slow or large, and silence.

use std::time::Duration;

use http::{Request, Response};
use proxy_model::limits;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    time::Instant,
};

use super::*;

async fn answer(io: &mut DuplexStream) -> String {
    let mut got = Vec::new();
    let _ = tokio::time::timeout(LONG, io.read_to_end(&mut got))
        .await
        .expect("it ends");
    String::from_utf8(got).expect("text")
}

#[tokio::test(start_paused = true)]
async fn slow_head_is_refused_however_it_trickles() {
    local(async {
        let victim = Victim::meshed();
        let (mut io, served) = victim.http1(empty);
        let began = Instant::now();
        io.write_all(b"GET / HTTP/1.1\r\n").await.expect("open");
        let trickle = spawn_local(async move {
            let (mut read, mut write) = tokio::io::split(io);
            let trickling = async {
                while write.write_all(b"x: y\r\n").await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(3)).await;
                }
            };
            let mut got = Vec::new();
            let _ = tokio::join!(trickling, read.read_to_end(&mut got));
            String::from_utf8(got).expect("text")
        });
        ended(served).await;
        let took = began.elapsed();
        let limit = limits::HTTP1_HEAD.value;
        assert!(took >= limit && took < limit * 2, "{took:?}");
        assert_eq!(victim.refused("HTTP1_HEAD"), 1);
        let answer = trickle.await.expect("no panic");
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("l5d-proxy-error: "), "{answer}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn slow_head_is_refused_after_earlier_requests_too() {
    local(async {
        let victim = Victim::new();
        let (mut io, served) = victim.http1(empty);
        for _ in 0..3 {
            io.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n")
                .await
                .expect("open");
            tokio::time::sleep(Duration::from_secs(100)).await;
        }
        let began = Instant::now();
        io.write_all(b"GET / HTTP/1.1\r\nx: ").await.expect("open");
        ended(served).await;
        assert!(began.elapsed() < limits::HTTP1_HEAD.value * 2, "{:?}", began.elapsed());
        let answer = answer(&mut io).await;
        assert_eq!(answer.matches("HTTP/1.1 200").count(), 3, "{answer}");
        assert!(!answer.contains("l5d-"), "a stranger: {answer}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn silent_client_is_closed() {
    local(async {
        let victim = Victim::new();
        let (io, served) = victim.http1(empty);
        let began = Instant::now();
        ended(served).await;
        assert_eq!(began.elapsed().as_secs(), limits::HTTP_FIRST_REQUEST.value.as_secs());
        assert_eq!(victim.refused("HTTP_FIRST_REQUEST"), 1);
        drop(io);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn idle_connection_is_closed_after_its_time_and_not_before() {
    local(async {
        let victim = Victim::new();
        let (mut io, served) = victim.http1(empty);
        let idle = limits::HTTP_IDLE.value;
        for _ in 0..3 {
            io.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n")
                .await
                .expect("open");
            tokio::time::sleep(idle.mul_f32(0.99)).await;
            assert!(!served.is_finished());
        }
        let began = Instant::now();
        ended(served).await;
        assert!(began.elapsed() <= idle, "{:?}", began.elapsed());
        assert_eq!(answer(&mut io).await.matches("HTTP/1.1 200").count(), 3);
        assert_eq!(victim.refused("HTTP_IDLE"), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn long_exchange_has_no_limit_here() {
    local(async {
        let victim = Victim::new();
        let (mut io, served) = victim.http1(async |_: Request<Body>| {
            tokio::time::sleep(LONG).await;
            Response::new(Body::Empty)
        });
        io.write_all(b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n")
            .await
            .expect("open");
        tokio::time::sleep(LONG / 2).await;
        assert!(!served.is_finished());
        tokio::time::sleep(LONG / 2).await;
        assert!(answer(&mut io).await.starts_with("HTTP/1.1 200"));
        ended(served).await;
    })
    .await;
}

/// Sends header bytes without an end; returns the number that the server took, and its answer.
async fn endless_head(victim: &Victim) -> (usize, String) {
    let (io, served) = victim.http1(silent);
    let (mut read, mut write) = tokio::io::split(io);
    let mut taken = 0;
    let sending = async {
        let _ = write.write_all(b"GET / HTTP/1.1\r\nx: ").await;
        while taken < 4 << 20 && write.write_all(&[b'a'; 1024]).await.is_ok() {
            taken += 1024;
        }
    };
    let mut got = Vec::new();
    let _ = tokio::join!(sending, read.read_to_end(&mut got));
    ended(served).await;
    (taken, String::from_utf8(got).expect("text"))
}

#[tokio::test(start_paused = true)]
async fn endless_head_is_refused_early_and_with_its_reason() {
    local(async {
        let victim = Victim::meshed();
        let (taken, answer) = endless_head(&victim).await;
        let most = limits::HTTP1_HEAD_BYTES.value * 2 + PIPE;
        assert!(taken <= most, "{taken} bytes taken");
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        assert!(
            answer.contains("l5d-proxy-error: the request's head is too large\r\n"),
            "{answer}"
        );
        assert_eq!(victim.refused("HTTP1_HEAD_BYTES"), 1);

        let victim = Victim::new();
        let (_, answer) = endless_head(&victim).await;
        assert!(
            answer.starts_with("HTTP/1.1 431 ") && !answer.contains("l5d-"),
            "{answer}"
        );
        assert_eq!(victim.refused("HTTP1_HEAD_BYTES"), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn number_of_headers_is_limited() {
    local(async {
        let most = limits::HTTP1_HEADERS.value;
        for (count, status) in [(most, "HTTP/1.1 200 "), (most + 1, "HTTP/1.1 431 ")] {
            let victim = Victim::new();
            let (mut io, served) = victim.http1(empty);
            let headers = "connection: close\r\n".to_owned() + &"a: b\r\n".repeat(count - 1);
            let head = format!("GET / HTTP/1.1\r\n{headers}\r\n");
            io.write_all(head.as_bytes()).await.expect("open");
            let answer = answer(&mut io).await;
            assert!(answer.starts_with(status), "{count}: {answer}");
            assert_eq!(victim.refused("HTTP1_HEADERS"), u64::from(count > most));
            ended(served).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn whole_head_of_the_largest_size_passes() {
    local(async {
        let victim = Victim::new();
        let (mut io, served) = victim.http1(empty);
        let value = "a".repeat(limits::HTTP1_HEAD_BYTES.value - 100);
        let head = format!("GET / HTTP/1.1\r\nconnection: close\r\nx: {value}\r\n\r\n");
        io.write_all(head.as_bytes()).await.expect("open");
        assert!(answer(&mut io).await.starts_with("HTTP/1.1 200 "));
        ended(served).await;
    })
    .await;
}
