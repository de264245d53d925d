//! Command line: the benchmark, and its parts that are separate processes.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{
    bare, cluster, control_plane, generator, guard, instructions, namespaces, run, side, soak, table, webhook,
};

/// Measure the cost of a request in both sidecars, compared with a bare hyper and rustls pair.
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
    /// HTTP/1 connections, each with one request in flight
    #[arg(long, default_value_t = 32)]
    pub(crate) connections: usize,
    /// Length of one measurement, in seconds
    #[arg(long, default_value_t = 5)]
    pub(crate) seconds: u64,
    /// Measurements of each pair, in turns
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Path of mesh-proxy; defaults to the one beside this program
    #[arg(long, value_name = "PATH")]
    pub(crate) proxy: Option<PathBuf>,
    /// Write the result as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Measure only the bare pair
    #[arg(long)]
    pub(crate) bare_only: bool,
    /// Use loopback instead of network namespaces (bare pair only)
    #[arg(long, requires = "bare_only")]
    pub(crate) loopback: bool,
    /// Fail if the sidecars cost more than this multiple of the bare pair
    #[arg(long, value_name = "RATIO")]
    pub(crate) max_ratio: Option<f64>,
}

/// Other measurements, and the parts that are separate processes.
#[derive(Debug, Subcommand)]
enum Part {
    /// Run one end: a namespace with a scripted control plane and the load or the backend
    #[command(hide = true)]
    Side(side::Args),
    /// Run a command in the network namespace of a process
    #[command(hide = true)]
    Enter(namespaces::Enter),
    /// Print all costs of a sidecar with their targets
    Table(table::Args),
    /// Run mixed load during constant updates and check that memory does not grow
    Soak(soak::Args),
    /// Run a fixed exchange in one process, for counting instructions
    Instructions(instructions::Args),
    /// Compare instructions per request with the committed figures (needs valgrind)
    Guard(guard::Args),
    /// Compare our load generator with wrk and h2load, which must be installed
    Generator(generator::Args),
    /// Measure mesh-destination with thousands of streams
    ControlPlane(control_plane::Args),
    /// Measure the time that the admission webhook adds to the creation of a pod
    Webhook(webhook::Args),
    /// Measure the control plane on Kubernetes: streams, webhook, installation, memory, reaction to changes
    Cluster(cluster::Args),
    /// Run the client side of the bare pair: HTTP/1 in, HTTP/2 over mutual TLS out
    #[command(hide = true)]
    BareOutbound(Bare),
    /// Run the server side of the bare pair: HTTP/2 over mutual TLS in, HTTP/1 out
    #[command(hide = true)]
    BareInbound(Bare),
}

/// Options of a bare sidecar.
#[derive(Debug, clap::Args)]
pub(crate) struct Bare {
    /// Address to listen on
    #[arg(long)]
    pub(crate) listen: SocketAddr,
    /// Address to forward to
    #[arg(long)]
    pub(crate) target: SocketAddr,
    /// Protocol
    #[arg(long)]
    pub(crate) speaks: bare::Speaks,
    /// Directory with trust anchor and issuer, as the benchmark writes them
    #[arg(long, value_name = "DIR")]
    pub(crate) pki: PathBuf,
    /// Threads
    #[arg(long, default_value_t = 1)]
    pub(crate) workers: usize,
}

impl Args {
    /// Runs the benchmark or a part of it.
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
