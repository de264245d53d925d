//! `mesh diagnostics`: what the control plane and the sidecars say of themselves, and what the control plane would tell a
//! proxy.

mod dump;
mod lookup;
mod metrics;
mod streams;

use std::process::ExitCode;

use anyhow::Result;

use crate::kube::{self, Flags, Namespaced};

/// Which question.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print the metrics of sidecars.
    ProxyMetrics(metrics::ProxyArgs),
    /// Print the metrics of the control plane.
    #[command(visible_alias = "cp-metrics")]
    ControllerMetrics(metrics::ControllerArgs),
    /// Show the endpoints that the control plane tells for authorities.
    #[command(visible_alias = "ep")]
    Endpoints(lookup::EndpointsArgs),
    /// Show the policy that the control plane tells: a pod's for a port, or a Service's for its clients.
    Policy(lookup::PolicyArgs),
    /// Show the profile that the control plane tells for an address.
    Profile(lookup::ProfileArgs),
    /// Show the streams of proxies that the control plane has open, with their ages.
    Streams(streams::StreamsArgs),
}

/// `mesh diagnostics`
pub(crate) fn run(command: Command) -> Result<ExitCode> {
    kube::block_on(async {
        match command {
            Command::ProxyMetrics(args) => metrics::proxy(&args).await,
            Command::ControllerMetrics(args) => metrics::controller(&args).await,
            Command::Endpoints(args) => lookup::endpoints(&args).await,
            Command::Policy(args) => lookup::policy(&args).await,
            Command::Profile(args) => lookup::profile(&args).await,
            Command::Streams(args) => streams::streams(&args).await,
        }
    })
}

/// Which cluster, and which namespace.
#[derive(Debug, clap::Args)]
pub(crate) struct Where {
    #[command(flatten)]
    namespace: Namespaced,

    #[command(flatten)]
    cluster: Flags,
}
