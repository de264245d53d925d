//! Rows of loads, with the figures of each that count.

use super::{Subject, print::Line};
use crate::{
    bare::Speaks,
    orders::{Loaded, What},
    report::Measured,
};

/// One load.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) connections: usize,
    pub(super) what: What,
    pub(super) speaks: Speaks,
    judged: &'static [Judged],
}

/// Figure of a load that counts, with its limit as a ratio to the bare pair.
enum Judged {
    Outbound(f64),
    Inbound(f64),
    /// Lower limit.
    Rate(f64),
    /// Share of requests, and its name.
    Latency(f64, &'static str, f64),
}

const fn row(name: &'static str, connections: usize, what: What, judged: &'static [Judged]) -> Row {
    let speaks = match what {
        What::Http1 | What::Large | What::Open { .. } | What::Churn => Speaks::Http1,
        What::Http2 { .. } => Speaks::Http2,
        What::Tcp => Speaks::Tcp,
    };
    Row {
        name,
        connections,
        what,
        speaks,
        judged,
    }
}

use Judged::{Inbound, Latency, Outbound, Rate};

/// Loads with their targets.
pub(super) const ROWS: [Row; 7] = [
    row(
        "http1-32",
        32,
        What::Http1,
        &[Outbound(1.15), Inbound(1.15), Rate(0.88)],
    ),
    row("http1-4", 4, What::Http1, &[Outbound(1.15), Inbound(1.15)]),
    row("http1-256", 256, What::Http1, &[Outbound(1.2), Inbound(1.2)]),
    row(
        "http2-4x16",
        4,
        What::Http2 { streams: 16 },
        &[Outbound(1.15), Inbound(1.15)],
    ),
    row("large-8", 8, What::Large, &[Outbound(1.05), Inbound(1.05)]),
    row(
        "open-2000",
        16,
        What::Open { rate: 2000 },
        &[
            Latency(0.5, "p50", 1.15),
            Latency(0.99, "p99", 1.25),
            Latency(0.999, "p99.9", 1.5),
        ],
    ),
    row("tcp", 8, What::Tcp, &[Outbound(1.15), Inbound(1.15)]),
];

/// Target of a short connection in a sidecar, in µs.
const SHORT_CONNECTION_US: f64 = 450.0;

impl Row {
    /// Rounds, and the length of one measurement. On two cores the tail of latencies depends on the scheduler's choice
    /// of cores, which lasts for seconds: many short measurements instead of a few long ones.
    pub(super) fn turns(&self, rounds: usize, ms: u64) -> (usize, u64) {
        match self.what {
            What::Open { .. } => (rounds * 6, ms / 3),
            _ => (rounds, ms),
        }
    }

    /// Lines of the figures that count.
    pub(super) fn lines(&self, measured: &[(Subject, Measured)]) -> Vec<Line> {
        self.judged.iter().map(|judged| self.line(judged, measured)).collect()
    }

    fn line(&self, judged: &Judged, measured: &[(Subject, Measured)]) -> Line {
        let name = |what: &str| format!("{} {what}", self.name);
        let line = match judged {
            Outbound(most) => Line::new(name("outbound"), "µs CPU").ratio_at_most(*most),
            Inbound(most) => Line::new(name("inbound"), "µs CPU").ratio_at_most(*most),
            Rate(least) => Line::new(name("rate"), "requests/s").ratio_at_least(*least),
            Latency(_, share, most) => Line::new(name(share), "µs").ratio_at_most(*most),
        };
        let of = |subject: Subject| {
            let own = measured.iter().filter(move |(whose, _)| *whose == subject);
            own.map(|(_, measured)| judged.value(measured)).collect()
        };
        let mut line = line.with_values(of(Subject::Mesh), of(Subject::Bare), of(Subject::Peer));
        if self.what == What::Tcp {
            line = line.at_most(SHORT_CONNECTION_US);
        }
        if let Latency(share, ..) = judged {
            // A round has too few requests for the last in a thousand: all rounds together decide.
            let all = |subject: Subject| {
                let own = measured.iter().filter(move |(whose, _)| *whose == subject);
                Loaded::merged(own.map(|(_, measured)| &measured.load)).quantile(*share)
            };
            line.overall = Some((all(Subject::Mesh), all(Subject::Bare)));
        }
        line
    }
}

impl Judged {
    fn value(&self, measured: &Measured) -> f64 {
        match self {
            Outbound(_) => measured.outbound.total_us(),
            Inbound(_) => measured.inbound.total_us(),
            Rate(_) => measured.rate(),
            Latency(share, ..) => measured.load.quantile(*share),
        }
    }
}
