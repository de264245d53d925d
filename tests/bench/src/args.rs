//! Command line: the benchmark, and its parts that are separate processes.

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
    options: run::Options,
    #[command(subcommand)]
    part: Option<Part>,
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
    BareOutbound(bare::Args),
    /// Run the server side of the bare pair: HTTP/2 over mutual TLS in, HTTP/1 out
    #[command(hide = true)]
    BareInbound(bare::Args),
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
