//! Closed loops: each connection or stream has one exchange in flight, and the next starts after its answer.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::{JoinSet, spawn_local},
};

use super::{Latencies, connect, http1, record};
use crate::{
    backend::{BODY, Local},
    orders::{Load, What},
};

/// Requests on a connection before the next, where connections change.
const UNTIL_CHANGED: u64 = 10;

/// One connection's loop.
#[derive(Clone)]
struct Loop {
    addr: SocketAddr,
    end: Instant,
    pause: Duration,
    latencies: Latencies,
}

impl Loop {
    /// Records an exchange that started at `begun`, and pauses.
    async fn done(&self, begun: Instant) {
        record(&self.latencies, begun);
        if !self.pause.is_zero() {
            tokio::time::sleep(self.pause).await;
        }
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }
}

/// Starts a task for each connection.
pub(crate) fn start(load: &Load, end: Instant, latencies: &Latencies, tasks: &mut JoinSet<Result<()>>) {
    for _ in 0..load.connections {
        let each = Loop {
            addr: load.addr,
            end,
            pause: Duration::from_millis(load.pause_ms),
            latencies: latencies.clone(),
        };
        match load.what {
            What::Http1 | What::Open { .. } => tasks.spawn_local(http1(each, http1::SMALL, u64::MAX)),
            What::Churn => tasks.spawn_local(http1(each, http1::SMALL, UNTIL_CHANGED)),
            What::Large => tasks.spawn_local(http1(each, http1::LARGE, u64::MAX)),
            What::Http2 { streams } => tasks.spawn_local(http2(each, streams)),
            What::Tcp => tasks.spawn_local(tcp(each)),
        };
    }
}

async fn http1(each: Loop, exchange: http1::Exchange, requests: u64) -> Result<()> {
    while !each.is_over() {
        let mut client = http1::Client::connect(each.addr, exchange).await?;
        // At least one: to a sidecar, which detects the protocol, a connection without data is an error.
        for _ in 0..requests {
            let begun = Instant::now();
            client.exchange().await?;
            each.done(begun).await;
            if each.is_over() {
                break;
            }
        }
    }
    Ok(())
}

async fn http2(each: Loop, streams: usize) -> Result<()> {
    let socket = connect(each.addr).await?;
    let (sender, connection) = http2::handshake(Local, TokioIo::new(socket)).await?;
    let driver = spawn_local(connection);
    let mut tasks = JoinSet::new();
    for _ in 0..streams {
        tasks.spawn_local(stream(sender.clone(), each.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    drop(sender);
    let _ = driver.await; // Ends with its senders.
    Ok(())
}

async fn stream(mut sender: SendRequest<Empty<Bytes>>, each: Loop) -> Result<()> {
    let uri: http::Uri = format!("http://{}/bench", each.addr).parse()?;
    while !each.is_over() {
        let begun = Instant::now();
        request(&mut sender, &uri).await?;
        each.done(begun).await;
    }
    Ok(())
}

/// Sends one request and checks the answer.
async fn request(sender: &mut SendRequest<Empty<Bytes>>, uri: &http::Uri) -> Result<()> {
    let request = Request::get(uri.clone()).body(Empty::new())?;
    sender.ready().await.context("the connection was closed")?;
    let response = sender.send_request(request).await.context("a request failed")?;
    let status = response.status();
    ensure!(
        status == StatusCode::OK,
        "wrong answer: {status} {:?}",
        response.headers()
    );
    let body = response.into_body().collect().await.context("an answer broke off")?;
    let body = body.to_bytes();
    ensure!(body[..] == BODY[..], "wrong answer: a body of {} bytes", body.len());
    Ok(())
}

/// Sends `requests` sequential requests on each of `streams` streams of one connection; returns the number answered.
pub async fn http2_requests(addr: SocketAddr, streams: usize, requests: usize) -> Result<usize> {
    let (sender, connection) = http2::handshake(Local, TokioIo::new(connect(addr).await?)).await?;
    spawn_local(connection);
    let uri: http::Uri = format!("http://{addr}/bench").parse()?;
    let mut tasks = JoinSet::new();
    for _ in 0..streams {
        let (mut sender, uri) = (sender.clone(), uri.clone());
        tasks.spawn_local(async move {
            for _ in 0..requests {
                request(&mut sender, &uri).await?;
            }
            Ok::<_, anyhow::Error>(requests)
        });
    }
    let mut answered = 0;
    while let Some(ended) = tasks.join_next().await {
        answered += ended??;
    }
    Ok(answered)
}

async fn tcp(each: Loop) -> Result<()> {
    while !each.is_over() {
        let begun = Instant::now();
        let mut socket = connect(each.addr).await?;
        echo(&mut socket).await?;
        socket.shutdown().await.context("a connection broke")?;
        let rest = socket.read(&mut [0]).await.context("a connection broke")?;
        ensure!(rest == 0, "wrong answer: more bytes than were sent");
        each.done(begun).await;
    }
    Ok(())
}

/// Sends some bytes and reads their echo.
pub(crate) async fn echo(socket: &mut tokio::net::TcpStream) -> Result<()> {
    let mut bytes = [0; BODY.len()];
    socket.write_all(BODY).await.context("a connection broke")?;
    socket.read_exact(&mut bytes).await.context("a connection broke")?;
    ensure!(bytes == *BODY, "wrong answer: other bytes than were sent");
    Ok(())
}
