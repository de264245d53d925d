//! Our load generator compared with wrk and h2load: all drive the application itself, in turns, and should agree.
//!
//! The application has the first core, the generator the second. Compared are the number of responses and their
//! latencies. Nothing else in this program needs those tools.

mod tools;

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, Result};
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use tokio::task::LocalSet;

use self::tools::Tool;
use crate::{
    lab::Lab,
    load, namespaces,
    orders::{Load, Loaded, What},
    proxy,
    report::median,
};

/// Core of the generator; the application has the first.
const SENDER_CORE: usize = 1;
/// Requests per second of the open loop.
const OPEN_RATE: u64 = 2_000;

/// Compare our load generator with wrk and h2load.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Length of one measurement, in seconds
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Measurements of each generator and load, in turns
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// Load, and the other generators that can make it.
struct Row {
    name: &'static str,
    what: What,
    connections: usize,
    tool: Tool,
}

const ROWS: [Row; 6] = [
    Row::new("HTTP/1, 4 connections", What::Http1, 4, Tool::Wrk),
    Row::new("HTTP/1, 32 connections", What::Http1, 32, Tool::Wrk),
    Row::new("HTTP/1, 256 connections", What::Http1, 256, Tool::Wrk),
    Row::new("HTTP/1, 32 connections", What::Http1, 32, Tool::H2load),
    Row::new("HTTP/2, 4 × 16 streams", What::Http2 { streams: 16 }, 4, Tool::H2load),
    Row::new("HTTP/1, 2000/s", What::Open { rate: OPEN_RATE }, 32, Tool::H2load),
];

impl Row {
    const fn new(name: &'static str, what: What, connections: usize, tool: Tool) -> Self {
        Self {
            name,
            what,
            connections,
            tool,
        }
    }
}

/// Measurement of a generator: requests per second, and latencies in microseconds.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) rate: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl From<&Loaded> for Seen {
    fn from(loaded: &Loaded) -> Self {
        Self {
            rate: loaded.requests as f64 / loaded.seconds,
            p50: loaded.quantile(0.5),
            p99: loaded.quantile(0.99),
        }
    }
}

/// Prints the measurements of all generators.
#[expect(clippy::print_stdout, reason = "it is what this command is for")]
pub(crate) fn run(args: &Args) -> Result<()> {
    for tool in [Tool::Wrk, Tool::H2load] {
        tool.check()?;
    }
    // Its ends go to the first core by themselves; wrk and h2load stay where we are.
    let _lab = Lab::start(false)?;
    namespaces::stay_on(SENDER_CORE)?;
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header([
        "load",
        "beside",
        "requests/s, ours",
        "theirs",
        "ratio",
        "p50 µs, ours",
        "theirs",
        "p99 µs, ours",
        "theirs",
    ]);
    for row in &ROWS {
        eprintln!("{}, {} ...", row.name, row.tool.program());
        table.add_row(cells(row, &measure(row, args)?));
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{} rounds of {} s\n{table}", args.rounds, args.seconds);
    Ok(())
}

/// Measurements of both generators in each round.
fn measure(row: &Row, args: &Args) -> Result<Vec<[Seen; 2]>> {
    let load = Load {
        addr: (Ipv4Addr::LOCALHOST, proxy::BACKEND_PORT).into(),
        connections: row.connections,
        ms: args.seconds * 1000,
        what: row.what,
        pause_ms: 0,
    };
    let both = |round: usize| {
        // Every second round begins with the other one.
        let ours_first = round.is_multiple_of(2).then(|| ours(load)).transpose()?;
        let theirs = row.tool.run(&load).with_context(|| row.tool.program())?;
        let ours = ours_first.map_or_else(|| ours(load), Ok)?;
        anyhow::Ok([ours, theirs])
    };
    (0..args.rounds).map(both).collect()
}

fn ours(load: Load) -> Result<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let loaded = runtime.block_on(LocalSet::new().run_until(load::run(vec![load])))?;
    runtime.shutdown_timeout(Duration::ZERO);
    loaded.first().map(Seen::from).context("the load says nothing")
}

/// Medians of the rounds.
fn cells(row: &Row, rounds: &[[Seen; 2]]) -> Vec<String> {
    let of = |value: fn(&Seen) -> f64| [0, 1].map(|who| median(rounds.iter().map(|both| value(&both[who])).collect()));
    let ratio = median(rounds.iter().map(|[ours, theirs]| ours.rate / theirs.rate).collect());
    let mut cells = vec![row.name.to_owned(), row.tool.program().to_owned()];
    cells.extend(of(|seen| seen.rate).map(|rate| format!("{rate:.0}")));
    cells.push(format!("{ratio:.2}"));
    cells.extend(of(|seen| seen.p50).map(|us| format!("{us:.0}")));
    cells.extend(of(|seen| seen.p99).map(|us| format!("{us:.0}")));
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_medians() {
        let seen = |rate| Seen {
            rate,
            p50: 10.0 * rate,
            p99: 1.0,
        };
        let rounds = [[1.0, 2.0], [30.0, 30.0], [4.0, 5.0]].map(|both| both.map(seen));
        let cells = cells(&ROWS[0], &rounds);
        assert_eq!(cells[1..], ["wrk", "4", "5", "0.80", "40", "50", "1", "1"]);
    }
}
