//! What the benchmark tells its parts, and what they answer: a line of JSON each.

use std::net::SocketAddr;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// What a part is to do.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// The cable is laid: bring up the network, start serving.
    Start,
    /// Wait until the admin server there says ready.
    Await(SocketAddr),
    /// Read the metrics of the sidecar whose admin server is there.
    Count(SocketAddr),
    /// Run loads, all at a time.
    Load(Vec<Load>),
    /// Open so many connections for bytes, use each once, and keep them.
    Hold(SocketAddr, usize),
    /// Close what is held.
    Release,
    /// From now on, for so many seconds, say something else each second about everything that the control plane tells.
    Update(u64),
}

/// Load.
#[derive(Copy, Clone, Debug, Serialize, Deserialize)]
pub struct Load {
    /// Where connections go.
    pub addr: SocketAddr,
    /// Connections.
    pub connections: usize,
    /// Length in milliseconds.
    pub ms: u64,
    /// What is sent.
    pub what: What,
    /// Milliseconds between an answer and what follows it, in a closed loop.
    pub pause_ms: u64,
}

/// What a load sends.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// HTTP/1 requests, each connection one after another (a closed loop).
    Http1,
    /// The same, for a body of 1 MiB.
    Large,
    /// HTTP/2 requests, so many at a time on each connection.
    Http2 {
        /// Streams.
        streams: usize,
    },
    /// HTTP/1 requests at fixed times, whether or not earlier ones were answered (an open loop).
    Open {
        /// Requests per second.
        rate: u64,
    },
    /// Short connections for bytes: some bytes there and back, and the end.
    Tcp,
    /// HTTP/1 requests, and a new connection after each few.
    Churn,
}

/// What a part answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// It is in its namespace.
    Entered,
    /// It listens.
    Listening(SocketAddr),
    /// It is done.
    Done,
    /// What each load was like.
    Loaded(Vec<Loaded>),
    /// What a sidecar has counted.
    Counted(Counted),
    /// It went wrong.
    Failed(String),
}

impl Answer {
    /// What a load was like.
    pub fn loaded(self) -> anyhow::Result<Vec<Loaded>> {
        match self {
            Self::Loaded(loaded) => Ok(loaded),
            other => anyhow::bail!("the load says {other:?}"),
        }
    }

    /// What a sidecar has counted.
    pub fn counted(self) -> anyhow::Result<Counted> {
        match self {
            Self::Counted(counted) => Ok(counted),
            other => anyhow::bail!("instead of what was counted, it says {other:?}"),
        }
    }
}

/// What a sidecar has counted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Counted {
    /// Requests over mutual TLS.
    pub is_meshed: bool,
    /// Series that count something wrong, as they are printed.
    pub errors: Vec<String>,
}

/// What the load was like.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Loaded {
    /// Requests that were answered.
    pub requests: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Latencies in microseconds, and how many there were of each.
    latencies: Vec<(u64, u64)>,
}

impl Loaded {
    /// What was recorded in so many seconds.
    pub fn new(latencies: &Histogram<u64>, seconds: f64) -> Self {
        Self {
            requests: latencies.len(),
            seconds,
            latencies: latencies
                .iter_recorded()
                .map(|value| (value.value_iterated_to(), value.count_since_last_iteration()))
                .collect(),
        }
    }

    /// Several as one.
    pub fn merged<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let (mut latencies, mut seconds) = (histogram(), 0.0);
        for loaded in all {
            seconds += loaded.seconds;
            for (value, count) in &loaded.latencies {
                latencies.saturating_record_n(*value, *count);
            }
        }
        Self::new(&latencies, seconds)
    }

    /// The latency, in microseconds, that this share of requests does not exceed. In a closed loop it is not what users
    /// of a busy service see.
    pub fn quantile(&self, share: f64) -> f64 {
        let wanted = (share * self.requests as f64).ceil() as u64;
        let mut seen = 0;
        let found = self.latencies.iter().find(|(_, count)| {
            seen += count;
            seen >= wanted
        });
        found.map_or(f64::NAN, |(value, _)| *value as f64)
    }
}

/// Latencies in microseconds, up to a minute.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are right")
}

/// Prints an answer.
pub fn answer(answer: &Answer) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, answer)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_become_one() {
        let of = |values: std::ops::RangeInclusive<u64>| {
            let mut latencies = histogram();
            values.for_each(|value| latencies.saturating_record(value));
            Loaded::new(&latencies, 1.0)
        };
        let merged = Loaded::merged(&[of(1..=500), of(501..=1000)]);
        assert_eq!((merged.requests, merged.seconds), (1000, 2.0));
        assert_eq!((merged.quantile(0.5), merged.quantile(0.999)), (500.0, 999.0));
        assert!(Loaded::new(&histogram(), 1.0).quantile(0.5).is_nan());
    }
}
