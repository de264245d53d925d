//! Figures of the mesh on Kubernetes, with their targets and those of upstream's control plane on such a machine.
//!
//! ```text
//! without a cluster: [control_plane] streams, [webhook] reviews
//! on a cluster: [install] ─▶ [idle] ─▶ [follow] changes ─▶ uninstall      all results are [rows]
//! ```
//! The cluster is that of `$KUBECONFIG`, or a temporary one of `../shared/kube`, as in `tests/cluster`.

mod follow;
mod idle;
mod install;
mod patch;
mod rows;

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use tests_cluster::bed::{Bed, Needs};

use crate::{control_plane, webhook};
use rows::{Row, Rows};

/// Parts of the measurement.
#[derive(Copy, Clone, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// mesh-destination with thousands of streams of each kind (without a cluster)
    Streams,
    /// Time that the admission webhook adds to the creation of a pod (without a cluster)
    Webhook,
    /// Time from `mesh install` until `mesh check` succeeds
    Install,
    /// Idle memory of the processes of the control plane
    Idle,
    /// Time from a change to the first request that follows it, through two sidecars
    Follow,
}

/// Measure the control plane on Kubernetes, with the target of each row.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Measure only these parts
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PARTS")]
    only: Vec<Part>,
    /// Number of installations, of which the median counts
    #[arg(long, default_value_t = 3)]
    installs: usize,
    /// Timed changes of each kind
    #[arg(long, default_value_t = 100)]
    changes: usize,
    /// Write the result as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if a row misses its target or cannot be measured
    #[arg(long, visible_alias = "strict")]
    check: bool,
}

/// Runs the measurement.
pub(crate) fn run(args: &Args) -> Result<()> {
    let rows = measure(args);
    println(&rows.table());
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&rows)?;
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let missed = rows.missed();
    ensure!(!args.check || missed.is_empty(), "not met: {}", missed.join("; "));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the result of the program")]
fn println(text: &str) {
    println!("{text}");
}

fn measure(args: &Args) -> Rows {
    let asked = |part: Part| args.only.is_empty() || args.only.contains(&part);
    let mut rows = Rows::default();
    // First what wants the machine for itself.
    if asked(Part::Streams) {
        rows.add("streams", control_plane::standard().map(|report| streams(&report)));
    }
    if asked(Part::Webhook) {
        rows.add("webhook", webhook::standard().map(|measured| reviews(&measured)));
    }
    if [Part::Install, Part::Idle, Part::Follow].into_iter().any(asked) {
        let bed = Bed::default();
        if let Err(error) = on_cluster(args, &bed, asked, &mut rows) {
            rows.add("cluster", Err(error));
        }
    }
    rows
}

fn on_cluster(args: &Args, bed: &Bed, asked: impl Fn(Part) -> bool, rows: &mut Rows) -> Result<()> {
    bed.find().context("there is no cluster to measure on")?;
    bed.prepare(Needs::Images).map_err(anyhow::Error::msg)?;
    let times = if asked(Part::Install) { args.installs } else { 1 };
    let installed = install::install(bed.cluster(), times)?;
    if asked(Part::Install) {
        rows.add("install", Ok(installed.rows()));
    }
    if asked(Part::Idle) {
        rows.add("idle", idle::measure(bed.cluster()));
    }
    if asked(Part::Follow) {
        rows.add("follow", follow::measure(bed, args.changes));
    }
    install::uninstall(bed.cluster())
}

/// Rows of streams.
fn streams(report: &control_plane::Report) -> Vec<Row> {
    let mut rows = vec![];
    for m in &report.measured {
        let upstream = control_plane::upstream(m.kind).filter(|_| m.streams == control_plane::UPSTREAM_STREAMS);
        let [kib, cpu, change] = upstream.unwrap_or_default();
        let name = |what: &str| format!("{} × {}: {what}", m.streams, m.kind);
        let [most_kib, most_cpu, most_change] = control_plane::TARGETS;
        rows.push(
            Row::new(name("memory of each"), m.kib_per_stream, "KiB")
                .most(most_kib)
                .upstream(kib),
        );
        rows.push(
            Row::new(name("CPU to open one"), m.cpu_ms_per_stream, "ms")
                .most(most_cpu)
                .upstream(cpu),
        );
        let all = Row::new(name("p99 until all have a change"), m.change_p99_ms, "ms");
        rows.push(all.most(most_change).upstream(change));
        rows.push(Row::new(name("CPU of a change for each"), m.cpu_ms_per_message, "ms"));
        rows.push(Row::new(
            name("the clients' CPU for it"),
            m.client_cpu_ms_per_message,
            "ms",
        ));
    }
    rows
}

/// Rows of the webhook.
fn reviews(measured: &webhook::Measured) -> Vec<Row> {
    let [median, p99, cpu] = webhook::PROMISED;
    vec![
        Row::new("webhook: median of an injection", measured.median_ms, "ms")
            .most(median)
            .upstream("23–27"),
        Row::new("webhook: p99", measured.p99_ms, "ms")
            .most(p99)
            .upstream("52–64"),
        Row::new("webhook: CPU of one", measured.cpu_ms, "ms")
            .most(cpu)
            .upstream("25–28"),
    ]
}
