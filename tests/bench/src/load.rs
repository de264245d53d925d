//! The load: some HTTP/1 connections, each with one request under way (a closed loop). Every answer is checked.

use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http::{Request, StatusCode, header::HOST};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};

use crate::{
    backend::BODY,
    orders::{Load, Loaded},
};

/// An answer that takes longer is wrong.
const ANSWER: Duration = Duration::from_secs(10);

/// Runs the load on tasks of the running `LocalSet`.
pub(crate) async fn run(load: &Load) -> Result<Loaded> {
    let latencies = Rc::new(RefCell::new(Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?));
    let start = Instant::now();
    let end = start + Duration::from_millis(load.ms);
    let mut connections = JoinSet::new();
    for _ in 0..load.connections {
        connections.spawn_local(connection(load.addr, end, latencies.clone()));
    }
    while let Some(ended) = connections.join_next().await {
        ended??;
    }
    let seconds = start.elapsed().as_secs_f64();
    let latencies = latencies.borrow();
    Ok(Loaded {
        requests: latencies.len(),
        seconds,
        p50_us: latencies.value_at_quantile(0.5),
        p99_us: latencies.value_at_quantile(0.99),
    })
}

async fn connection(addr: std::net::SocketAddr, end: Instant, latencies: Rc<RefCell<Histogram<u64>>>) -> Result<()> {
    let socket = TcpStream::connect(addr)
        .await
        .with_context(|| format!("cannot connect to {addr}"))?;
    socket.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    let driver = tokio::task::spawn_local(connection);
    let host = addr.to_string();
    while Instant::now() < end {
        let begun = Instant::now();
        tokio::time::timeout(ANSWER, exchange(&mut sender, &host))
            .await
            .context("an answer took too long")??;
        latencies
            .borrow_mut()
            .saturating_record(begun.elapsed().as_micros() as u64);
    }
    drop(sender);
    let _ = driver.await; // It ends with its sender.
    Ok(())
}

async fn exchange(sender: &mut SendRequest<Empty<Bytes>>, host: &str) -> Result<()> {
    sender.ready().await.context("the connection was closed")?;
    let request = Request::get("/bench").header(HOST, host).body(Empty::new())?;
    let response = sender.send_request(request).await.context("a request failed")?;
    ensure!(
        response.status() == StatusCode::OK,
        "wrong answer: {} {:?}",
        response.status(),
        response.headers()
    );
    let body = response
        .into_body()
        .collect()
        .await
        .context("an answer broke off")?
        .to_bytes();
    ensure!(body[..] == BODY[..], "wrong answer: a body of {} bytes", body.len());
    Ok(())
}
