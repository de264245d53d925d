//! `mesh install`: the charts, rendered to stdout, with generated credentials unless some are given.
//!
//! ```text
//! values files, flags, --set ─[given]─┐
//! cluster ────────────────[present]───┼─[credentials]─▶ mesh-charts ─[manifests]─▶ stdout
//! identity files ─────────────────────┘
//! ```
//! `mesh upgrade`, `mesh uninstall` and `mesh prune` share these modules.

pub(crate) mod cni;
mod credentials;
mod given;
pub(crate) mod manifests;
pub(crate) mod present;
pub(crate) mod upgrade;

#[cfg(test)]
mod tests;

use std::{path::PathBuf, process::ExitCode, time::SystemTime};

use anyhow::Context as _;
use destination_source::cluster::Client;
use mesh_charts::Chart;
use serde_json::Value;

use crate::{
    kube,
    output::{self, DocumentFormat},
};
use given::{NamedArgs, ValueArgs, read};
use manifests::Manifest;

/// Arguments of `mesh install`.
#[derive(Debug, clap::Args)]
pub(crate) struct InstallArgs {
    /// Print only the custom resources; install them first.
    #[arg(long)]
    crds: bool,

    /// Skip the check for an existing installation.
    #[arg(long)]
    ignore_cluster: bool,

    /// Output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: DocumentFormat,

    #[command(flatten)]
    values: ValueArgs,

    #[command(flatten)]
    named: NamedArgs,

    #[command(flatten)]
    identity: CredentialArgs,

    #[command(flatten)]
    cluster: kube::ClusterFlags,
}

/// Flags for existing credentials.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Identity")]
pub(crate) struct CredentialArgs {
    /// Trust anchors, PEM. Without the three files, anchor and issuer are generated.
    #[arg(long, value_name = "FILE")]
    identity_trust_anchors_file: Option<PathBuf>,

    /// Issuer certificate, PEM; intermediate certificates may follow it.
    #[arg(long, value_name = "FILE", requires_all = ["identity_trust_anchors_file", "identity_issuer_key_file"])]
    identity_issuer_certificate_file: Option<PathBuf>,

    /// Private key of the issuer, PEM.
    #[arg(long, value_name = "FILE", requires_all = ["identity_trust_anchors_file", "identity_issuer_certificate_file"])]
    identity_issuer_key_file: Option<PathBuf>,
}

impl CredentialArgs {
    fn apply_to(&self, values: &mut Value) -> anyhow::Result<()> {
        for (path, file) in [
            (credentials::ANCHORS, &self.identity_trust_anchors_file),
            (credentials::ISSUER_CERTIFICATE, &self.identity_issuer_certificate_file),
            (credentials::ISSUER_KEY, &self.identity_issuer_key_file),
        ] {
            if let Some(file) = file {
                credentials::put(values, path, read(file)?);
            }
        }
        Ok(())
    }
}

/// `mesh install`
pub(crate) fn install(args: &InstallArgs) -> anyhow::Result<ExitCode> {
    let mut found = ClusterFacts::default();
    if !args.ignore_cluster {
        let query = kube::block_on(output::patiently("reading the cluster", inspect_cluster(args)));
        found = query.map_err(|error| match error.downcast_ref::<destination_source::Error>() {
            Some(_) => {
                error.context("cannot query the cluster (use --ignore-cluster to render the manifests without one)")
            }
            None => error,
        })?;
    }
    let manifests = rendered(args, &found, SystemTime::now())?;
    output::print_manifests(&manifests::text(&manifests, args.output))?;
    Ok(ExitCode::SUCCESS)
}

/// Properties of a cluster that the manifests depend on.
#[derive(Debug, Default)]
pub(crate) struct ClusterFacts {
    /// Ports of the API server.
    pub(crate) api_server_ports: Option<String>,
}

impl ClusterFacts {
    /// Fills in values that the user has not set.
    pub(crate) fn fill(&self, values: &mut Value) -> anyhow::Result<()> {
        let is_set = values.pointer("/proxyInit/kubeAPIServerPorts").is_some();
        if let Some(ports) = self.api_server_ports.as_ref().filter(|_| !is_set) {
            mesh_charts::set_text(values, "proxyInit.kubeAPIServerPorts", ports.clone())?;
        }
        Ok(())
    }
}

/// Inspects the cluster, and rejects one that cannot take this mesh.
async fn inspect_cluster(args: &InstallArgs) -> anyhow::Result<ClusterFacts> {
    let client: Client = args.cluster.connect().await?;
    let there = present::control_planes(&client).await?;
    if args.crds {
        // Our own custom resources may be older, and are then upgraded.
        let others: Vec<_> = there.into_iter().filter(|there| !there.is_ours()).collect();
        present::reject_existing(&others, &args.cluster.linkerd_namespace)?;
        return Ok(ClusterFacts::default());
    }
    present::reject_existing(&there, &args.cluster.linkerd_namespace)?;
    present::check_resources(&client, &args.cluster.linkerd_namespace).await?;
    Ok(ClusterFacts {
        api_server_ports: present::api_server_ports(&client).await,
    })
}

fn rendered(args: &InstallArgs, found: &ClusterFacts, now: SystemTime) -> anyhow::Result<Vec<Manifest>> {
    let namespace = &args.cluster.linkerd_namespace;
    if args.crds {
        // Values of the control plane do not apply to them.
        return manifests::render(Chart::Crds, namespace, &mesh_charts::parse("")?);
    }
    let mut values = mesh_charts::parse("")?;
    args.named.apply_to(&mut values)?;
    args.values.apply_to(&mut values)?;
    args.identity.apply_to(&mut values)?;
    record_given(&mut values)?;
    found.fill(&mut values)?;
    credentials::fill(&mut values, now)?;
    manifests::render(Chart::ControlPlane, namespace, &values)
}

/// Records the given values, without secrets, for `mesh upgrade`.
pub(crate) fn record_given(values: &mut Value) -> anyhow::Result<()> {
    let mut given = values.clone();
    credentials::take(&mut given);
    let map = given.as_object_mut().context("values must be a mapping")?;
    map.remove("given");
    let text = if map.is_empty() {
        "{}\n".to_owned()
    } else {
        destination_yaml::write(&given)
    };
    mesh_charts::set_text(values, "given", text)?;
    Ok(())
}
