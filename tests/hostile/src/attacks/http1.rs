//! Attacks by bytes of HTTP/1.

use std::time::Duration;

use anyhow::Result;
use tokio::{
    io::AsyncWriteExt as _,
    time::{sleep, timeout},
};

use crate::{
    raw::{ended, http1::statuses, printable},
    target::Target,
};

/// Time in which heads that are too long or too slow, and silence, have been ended.
const PATIENCE: Duration = Duration::from_secs(12);
/// Time for everything else.
const SHORT: Duration = Duration::from_secs(3);
/// Bytes of a flood.
const FLOOD: usize = 4 << 20;

pub(super) async fn huge_heads(target: &Target) -> Result<String> {
    let head = ["GET / HTTP/1.1\r\nhost: a\r\nx: ", &"a".repeat(400_000)].concat();
    let mut streams = target.many(500, head.as_bytes(), Duration::from_secs(15)).await;
    Ok(ended(&mut streams, SHORT).await.to_string())
}

pub(super) async fn slow_heads(target: &Target) -> Result<String> {
    let mut streams = target.many(300, b"GET / HTTP/1.1\r\nhost: a\r\nx: ", SHORT).await;
    for _ in 0..PATIENCE.as_secs() {
        for stream in &mut streams {
            // Some are closed by now.
            let _ = timeout(Duration::from_millis(5), stream.write_all(b"a")).await;
        }
        sleep(Duration::from_secs(1)).await;
    }
    Ok(ended(&mut streams, Duration::from_secs(1)).await.to_string())
}

pub(super) async fn silent(target: &Target) -> Result<String> {
    let mut streams = target.many(300, b"", SHORT).await;
    Ok(ended(&mut streams, PATIENCE).await.to_string())
}

pub(super) async fn pipelined(target: &Target) -> Result<String> {
    flood(target, b"GET /bench HTTP/1.1\r\nhost: a\r\n\r\n").await
}

pub(super) async fn pipelined_metrics(target: &Target) -> Result<String> {
    flood(target, b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n").await
}

/// Writes the same bytes again and again without reading.
async fn flood(target: &Target, bytes: &[u8]) -> Result<String> {
    let many = bytes.repeat((64 * 1024) / bytes.len());
    let mut streams = target.many(10, b"", SHORT).await;
    let mut written = 0;
    for stream in &mut streams {
        while written < FLOOD
            && let Ok(Ok(())) = timeout(Duration::from_millis(300), stream.write_all(&many)).await
        {
            written += many.len();
        }
    }
    sleep(Duration::from_secs(1)).await;
    Ok(format!(
        "{} KiB taken; {}",
        written >> 10,
        ended(&mut streams, Duration::from_millis(200)).await
    ))
}

pub(super) async fn slow_readers(target: &Target) -> Result<String> {
    let streams = target.many(250, b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n", SHORT).await;
    sleep(SHORT).await;
    Ok(format!("{} answers of 1 MiB unread", streams.len()))
}

pub(super) async fn chunk_extensions(target: &Target) -> Result<String> {
    let head = b"POST /bench HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut streams = target.many(20, head, SHORT).await;
    let chunk = ["1;", &"x".repeat(60_000), "\r\na\r\n"].concat();
    for stream in &mut streams {
        for _ in 0..50 {
            let written = timeout(Duration::from_millis(300), stream.write_all(chunk.as_bytes())).await;
            if !matches!(written, Ok(Ok(()))) {
                break;
            }
        }
    }
    Ok(ended(&mut streams, Duration::from_secs(1)).await.to_string())
}

/// Bodies whose requests are answered before they are read, with another request behind.
pub(super) async fn unread_bodies(target: &Target) -> Result<String> {
    let body = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n".repeat(2_000);
    let head = format!(
        "POST /bench HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut most = 0;
    for _ in 0..50 {
        let mut stream = target.connect().await?;
        let answer = crate::raw::http1::exchange(&mut stream, head.as_bytes(), Duration::from_millis(100)).await;
        most = most.max(statuses(&answer).len());
    }
    anyhow::ensure!(most <= 1, "one request had {most} answers");
    Ok("one answer each".to_owned())
}

pub(super) async fn gone_at_once(target: &Target) -> Result<String> {
    let mut gone = 0;
    for _ in 0..1_000 {
        let Ok(mut stream) = target.connect().await else { break };
        let _ = stream.try_write(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n");
        if gone % 2 == 0 {
            let _ = stream.set_zero_linger();
        } else {
            let _ = stream.shutdown().await;
        }
        gone += 1;
    }
    let mut last = target.connect().await?;
    let request = b"GET /bench HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answer = crate::raw::http1::exchange(&mut last, request, SHORT).await;
    Ok(format!("{gone} gone, then {}", printable(&answer)))
}
