//! The command line: the benchmark, and the parts of it that are processes of their own.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{
    bare, cluster, control_plane, generator, guard, instructions, namespaces, run, side, soak, table, webhook,
};

/// Measures what a request costs the two sidecars, beside a bare hyper and rustls pair.
#[derive(Debug, Parser)]
#[command(name = "mesh-bench", version)]
pub(crate) struct Args {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    part: Option<Part>,
}

/// Options of the benchmark.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Options {
    /// HTTP/1 connections, each with one request under way.
    #[arg(long, default_value_t = 32)]
    pub(crate) connections: usize,
    /// Length of one measurement, in seconds.
    #[arg(long, default_value_t = 5)]
    pub(crate) seconds: u64,
    /// Measurements of each pair; they alternate.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// The program mesh-proxy; by default the one beside this program.
    #[arg(long, value_name = "PATH")]
    pub(crate) proxy: Option<PathBuf>,
    /// Writes the result as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Measures the bare pair alone.
    #[arg(long)]
    pub(crate) bare_only: bool,
    /// Without network namespaces, everything on loopback; only the bare pair can do that.
    #[arg(long, requires = "bare_only")]
    pub(crate) loopback: bool,
    /// Fails if the sidecars cost more than so many times the bare pair.
    #[arg(long, value_name = "RATIO")]
    pub(crate) max_ratio: Option<f64>,
}

/// The parts that are processes of their own; the benchmark starts them.
#[derive(Debug, Subcommand)]
enum Part {
    /// One end: a namespace with a scripted control plane, and the load or the backend.
    #[command(hide = true)]
    Side(side::Args),
    /// Runs a command in the network namespace of a process.
    #[command(hide = true)]
    Enter(namespaces::Enter),
    /// Prints all that a sidecar costs, with the target of each row.
    Table(table::Args),
    /// Mixed load while everything changes; memory must end as it began.
    Soak(soak::Args),
    /// A fixed exchange in one process, to count instructions by.
    Instructions(instructions::Args),
    /// Fails if a request takes more instructions than the committed figures say; needs valgrind.
    Guard(guard::Args),
    /// Our load generator beside wrk and h2load, which have to be installed.
    Generator(generator::Args),
    /// What the control plane costs: mesh-destination with thousands of streams.
    ControlPlane(control_plane::Args),
    /// What the admission webhook adds to a pod's creation.
    Webhook(webhook::Args),
    /// The control plane on a Kubernetes: streams, webhook, installation, memory, and how fast changes are followed.
    Cluster(cluster::Args),
    /// The client side of the bare pair: HTTP/1 in, HTTP/2 over mutual TLS out.
    #[command(hide = true)]
    BareOutbound(Bare),
    /// The server side of the bare pair: HTTP/2 over mutual TLS in, HTTP/1 out.
    #[command(hide = true)]
    BareInbound(Bare),
}

/// A bare sidecar.
#[derive(Debug, clap::Args)]
pub(crate) struct Bare {
    /// Where to listen.
    #[arg(long)]
    pub(crate) listen: SocketAddr,
    /// Where to send everything.
    #[arg(long)]
    pub(crate) target: SocketAddr,
    /// What it carries.
    #[arg(long)]
    pub(crate) speaks: bare::Speaks,
    /// Folder with anchor and issuer, as the benchmark writes them.
    #[arg(long, value_name = "DIR")]
    pub(crate) pki: PathBuf,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    pub(crate) workers: usize,
}

impl Args {
    /// Runs the benchmark, or a part of it.
    pub(crate) fn run(self) -> Result<()> {
        match self.part {
            None => run::run(self.options),
            Some(Part::Side(args)) => side::run(&args),
            Some(Part::Enter(args)) => namespaces::enter(&args),
            Some(Part::Table(args)) => table::run(&args),
            Some(Part::Soak(args)) => soak::run(&args),
            Some(Part::Instructions(args)) => instructions::run(&args),
            Some(Part::Guard(args)) => guard::run(&args),
            Some(Part::Generator(args)) => generator::run(&args),
            Some(Part::ControlPlane(args)) => control_plane::run(&args),
            Some(Part::Webhook(args)) => webhook::run(&args),
            Some(Part::Cluster(args)) => cluster::run(&args),
            Some(Part::BareOutbound(args)) => bare::outbound(&args),
            Some(Part::BareInbound(args)) => bare::inbound(&args),
        }
    }
}
