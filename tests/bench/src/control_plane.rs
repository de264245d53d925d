//! Cost of the control plane: mesh-destination, fed by a scripted API server, with thousands of streams of each kind.
//!
//! ```text
//! [api] scripted Kubernetes API server ─▶ mesh-destination ─▶ [streams] clients that count messages
//!        │ [objects] one change ────────────── time until all have it ─▲
//! ```

mod report;
mod streams;
mod wire;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::Parser as _;
use tests_harness::{
    cluster::{
        api,
        destination::Program,
        objects::{self, Kind},
    },
    process::Usage,
};
use tokio::time::sleep;

use report::Measured;
pub(crate) use report::{Report, TARGETS, UPSTREAM_STREAMS, upstream};
use streams::Streams;

/// Streams opened and closed before the measurement, so that the program has touched the memory it needs.
const WARM: usize = 50;
/// Time for memory to settle.
const SETTLE: Duration = Duration::from_millis(1_500);
/// Time between two changes.
const PAUSE: Duration = Duration::from_millis(150);

/// Measure mesh-destination with many streams.
#[derive(Debug, clap::Parser)]
pub(crate) struct Args {
    /// Streams of each kind; can be repeated
    #[arg(long, default_values_t = [1_000, 5_000])]
    streams: Vec<usize>,
    /// Connections that carry them
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Endpoints of the Service
    #[arg(long, default_value_t = 50)]
    endpoints: usize,
    /// Timed changes
    #[arg(long, default_value_t = 20)]
    changes: usize,
    /// Path of mesh-destination; defaults to the one beside this program
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// Write the result as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if a figure misses its target
    #[arg(long)]
    check: bool,
}

/// Runs the measurement.
pub(crate) fn run(args: &Args) -> Result<()> {
    let report = report(args)?;
    println(&report.table());
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let missed = report.missed();
    ensure!(!args.check || missed.is_empty(), "not met: {}", missed.join("; "));
    Ok(())
}

/// Default options.
pub(crate) fn standard() -> Result<Report> {
    report(&Args::parse_from(["control-plane"]))
}

fn report(args: &Args) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(measure(args))
}

#[expect(clippy::print_stdout, reason = "the result of the program")]
fn println(text: &str) {
    println!("{text}");
}

async fn measure(args: &Args) -> Result<Report> {
    let path = match &args.program {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("mesh-destination"),
    };
    let mut measured = vec![];
    for kind in Kind::ALL {
        for number in &args.streams {
            let one = one(args, &path, kind, *number).await;
            measured.push(one.with_context(|| format!("{} with {number} streams", kind.name()))?);
        }
    }
    Ok(Report {
        endpoints: args.endpoints,
        connections: args.connections,
        measured,
    })
}

async fn one(args: &Args, path: &std::path::Path, kind: Kind, number: usize) -> Result<Measured> {
    let api = api::Api::start(objects::all(args.endpoints)).await?;
    let program = Program::start(path, &api).await?;
    let warm = Streams::open(&program, kind, WARM.min(number), args.connections).await?;
    // Each side of the change, so that both have been seen.
    for turn in 0..2 {
        let since = api.change(kind.change(turn, args.endpoints))?;
        warm.until_all(since).await?;
    }
    drop(warm);
    sleep(SETTLE).await;

    let before = program.usage()?;
    let streams = Streams::open(&program, kind, number, args.connections).await?;
    sleep(SETTLE).await;
    let opened = program.usage()?;

    let clients = streams.cpu()?;
    let mut latencies = hdrhistogram::Histogram::<u64>::new(3)?;
    for turn in 0..args.changes {
        let since = api.change(kind.change(turn, args.endpoints))?;
        for latency in streams.until_all(since).await? {
            latencies.record(latency.as_micros() as u64)?;
        }
        sleep(PAUSE).await;
    }
    let (changed, clients) = (program.usage()?, streams.cpu()?.saturating_sub(clients));
    let each = |used: Duration, times: usize| used.as_secs_f64() * 1e3 / (number * times) as f64;
    let used = |from: Usage, to: Usage| to.cpu.saturating_sub(from.cpu);
    Ok(Measured {
        kind: kind.name(),
        streams: number,
        idle_mib: before.rss as f64 / 1_048_576.0,
        kib_per_stream: opened.rss.saturating_sub(before.rss) as f64 / 1_024.0 / number as f64,
        cpu_ms_per_stream: each(used(before, opened), 1),
        cpu_ms_per_message: each(used(opened, changed), args.changes),
        client_cpu_ms_per_message: each(clients, args.changes),
        change_p50_ms: latencies.value_at_quantile(0.5) as f64 / 1e3,
        change_p99_ms: latencies.value_at_quantile(0.99) as f64 / 1e3,
        change_max_ms: latencies.max() as f64 / 1e3,
    })
}
