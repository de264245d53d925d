//! Orders of the benchmark to its parts, and their answers: one line of JSON each.

use std::net::SocketAddr;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// An order to a part.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// The network link exists: bring the network up and start serving.
    Start,
    /// Wait until the admin server at this address is ready.
    Await(SocketAddr),
    /// Read the metrics of the sidecar with this admin address.
    Count(SocketAddr),
    /// Run loads concurrently.
    Load(Vec<Load>),
    /// Open this many TCP connections, use each once, and hold them.
    Hold(SocketAddr, usize),
    /// Close the held connections.
    Release,
    /// Change every control-plane answer once per second for this many seconds.
    Update(u64),
}

/// Load.
#[derive(Copy, Clone, Debug, Serialize, Deserialize)]
pub struct Load {
    /// Target address.
    pub addr: SocketAddr,
    /// Number of connections.
    pub connections: usize,
    /// Duration in milliseconds.
    pub ms: u64,
    /// Kind of load.
    pub what: What,
    /// Pause after each answer in a closed loop, in milliseconds.
    pub pause_ms: u64,
}

/// Kind of load.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// HTTP/1 requests, each connection one after another (a closed loop).
    Http1,
    /// The same, for a body of 1 MiB.
    Large,
    /// HTTP/2 requests, with this many concurrent streams on each connection.
    Http2 {
        /// Streams.
        streams: usize,
    },
    /// HTTP/1 requests at fixed times, whether or not earlier ones were answered (an open loop).
    Open {
        /// Requests per second.
        rate: u64,
    },
    /// Short TCP connections: some bytes and their echo, then close.
    Tcp,
    /// HTTP/1 requests, with a new connection after every few.
    Churn,
}

/// Answer of a part.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// Entered its namespace.
    Entered,
    /// Listening at this address.
    Listening(SocketAddr),
    /// Done.
    Done,
    /// Result of each load.
    Loaded(Vec<Loaded>),
    /// Counters of a sidecar.
    Counted(Counted),
    /// Failed with this error.
    Failed(String),
}

impl Answer {
    /// Returns the results of loads; any other answer is an error.
    pub fn loaded(self) -> anyhow::Result<Vec<Loaded>> {
        match self {
            Self::Loaded(loaded) => Ok(loaded),
            other => anyhow::bail!("unexpected answer from the load: {other:?}"),
        }
    }

    /// Counters of a sidecar.
    pub fn counted(self) -> anyhow::Result<Counted> {
        match self {
            Self::Counted(counted) => Ok(counted),
            other => anyhow::bail!("unexpected answer instead of counters: {other:?}"),
        }
    }
}

/// Counters of a sidecar.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Counted {
    /// Requests were sent over mutual TLS.
    pub is_meshed: bool,
    /// Error series, as exposed.
    pub errors: Vec<String>,
}

/// Result of a load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Loaded {
    /// Answered requests.
    pub requests: u64,
    /// Duration in seconds.
    pub seconds: f64,
    /// Latencies in microseconds with their counts.
    latencies: Vec<(u64, u64)>,
}

impl Loaded {
    /// A result from recorded latencies and a duration in seconds.
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

    /// Merges several results.
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

    /// The latency quantile in microseconds. In a closed loop this is not what users
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
    fn merges_measurements() {
        let result = |values: std::ops::RangeInclusive<u64>| {
            let mut latencies = histogram();
            values.for_each(|value| latencies.saturating_record(value));
            Loaded::new(&latencies, 1.0)
        };
        let merged = Loaded::merged(&[result(1..=500), result(501..=1000)]);
        assert_eq!((merged.requests, merged.seconds), (1000, 2.0));
        assert_eq!((merged.quantile(0.5), merged.quantile(0.999)), (500.0, 999.0));
        assert!(Loaded::new(&histogram(), 1.0).quantile(0.5).is_nan());
    }
}
