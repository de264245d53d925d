//! What the benchmark tells its parts, and what they answer: a line of JSON each.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// What a part is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// The cable is laid: bring up the network, start serving.
    Start,
    /// Wait until the admin server there says ready.
    Await(SocketAddr),
    /// Check that the sidecar whose admin server is there has had requests over mutual TLS.
    CheckMeshed(SocketAddr),
    /// Run load.
    Load(Load),
}

/// Load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Load {
    /// Where connections go.
    pub(crate) addr: SocketAddr,
    /// Connections.
    pub(crate) connections: usize,
    /// Length in milliseconds.
    pub(crate) ms: u64,
}

/// What a part answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It is in its namespace.
    Entered,
    /// It listens.
    Listening(SocketAddr),
    /// It is done.
    Done,
    /// What the load was like.
    Loaded(Loaded),
    /// It went wrong.
    Failed(String),
}

/// What the load was like.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Loaded {
    /// Requests that were answered.
    pub(crate) requests: u64,
    /// How long it took, in seconds.
    pub(crate) seconds: f64,
    /// Median latency, in microseconds.
    pub(crate) p50_us: u64,
    /// 99th percentile, in microseconds. A closed loop: not what users of a busy service see.
    pub(crate) p99_us: u64,
}

/// Prints an answer.
pub(crate) fn answer(answer: &Answer) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, answer)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}
