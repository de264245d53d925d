//! The benchmark's load (connections and requests, every answer checked) and the application that answers. A
//! crate of its own: wrk and h2load are compared with it, and it knows nothing of sidecars.

pub mod backend;
mod closed;
mod hold;
mod http1;
mod open;
pub mod orders;

use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use tokio::{net::TcpStream, task::JoinSet};

use self::orders::{Load, Loaded, What};
pub use self::{closed::http2_requests, hold::Held};

/// Longest time for an answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Latencies of all connections.
type Latencies = Rc<RefCell<Histogram<u64>>>;

/// Runs loads concurrently, on tasks of the running `LocalSet`.
pub async fn run(loads: Vec<Load>) -> Result<Vec<Loaded>> {
    futures_util::future::try_join_all(loads.into_iter().map(one)).await
}

async fn one(load: Load) -> Result<Loaded> {
    let latencies: Latencies = Rc::new(RefCell::new(orders::histogram()));
    let start = Instant::now();
    let length = Duration::from_millis(load.ms);
    let mut tasks = JoinSet::new();
    match load.what {
        What::Open { rate } => open::start(&load, rate, &latencies, &mut tasks).await?,
        _ => closed::start(&load, start + length, &latencies, &mut tasks),
    }
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(length + ANSWER, all)
        .await
        .context("an answer took too long")??;
    let seconds = start.elapsed().as_secs_f64();
    let loaded = Loaded::new(&latencies.borrow(), seconds);
    Ok(loaded)
}

async fn connect(addr: std::net::SocketAddr) -> Result<TcpStream> {
    let socket = TcpStream::connect(addr).await;
    let socket = socket.with_context(|| format!("cannot connect to {addr}"))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

fn record(latencies: &Latencies, since: Instant) {
    latencies
        .borrow_mut()
        .saturating_record(since.elapsed().as_micros() as u64);
}
