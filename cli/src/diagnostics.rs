//! `mesh diagnostics`: internal state of the control plane and the sidecars, and discovery answers to a proxy.

mod dump;
mod lookup;
mod metrics;
mod streams;

use std::process::ExitCode;

use anyhow::Result;

use crate::kube::{self, ClusterFlags, NamespaceFlag};

/// Subcommands of `mesh diagnostics`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum DiagnosticsCommand {
    /// Print the metrics of sidecars.
    ProxyMetrics(metrics::ProxyMetricsArgs),
    /// Print the metrics of the control plane.
    #[command(visible_alias = "cp-metrics")]
    ControllerMetrics(metrics::ControllerMetricsArgs),
    /// Show the endpoints that the control plane returns for authorities.
    #[command(visible_alias = "ep")]
    Endpoints(lookup::EndpointsArgs),
    /// Show the policy that the control plane returns: for a pod's port, or for clients of a Service.
    Policy(lookup::PolicyArgs),
    /// Show the profile that the control plane returns for an address.
    Profile(lookup::ProfileLookupArgs),
    /// Show the open discovery streams of the control plane.
    Streams(streams::StreamsArgs),
}

/// `mesh diagnostics`
pub(crate) fn run(command: DiagnosticsCommand) -> Result<ExitCode> {
    kube::block_on(async {
        match command {
            DiagnosticsCommand::ProxyMetrics(args) => metrics::proxy(&args).await,
            DiagnosticsCommand::ControllerMetrics(args) => metrics::controller(&args).await,
            DiagnosticsCommand::Endpoints(args) => lookup::endpoints(&args).await,
            DiagnosticsCommand::Policy(args) => lookup::policy(&args).await,
            DiagnosticsCommand::Profile(args) => lookup::profile(&args).await,
            DiagnosticsCommand::Streams(args) => streams::streams(&args).await,
        }
    })
}

/// Flags that select a cluster and a namespace.
#[derive(Debug, clap::Args)]
pub(crate) struct TargetFlags {
    #[command(flatten)]
    namespace: NamespaceFlag,

    #[command(flatten)]
    cluster: ClusterFlags,
}
