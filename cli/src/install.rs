//! `mesh install`: the charts, rendered to stdout, with credentials of their own when none are given.
//!
//! ```text
//! values files, flags, --set ─[given]─┐
//! cluster ────────────────[present]───┼─[credentials]─▶ mesh-charts ─[manifests]─▶ stdout
//! identity files ─────────────────────┘
//! ```
//! `mesh upgrade`, `mesh uninstall` and `mesh prune` stand on the same.

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

use crate::{kube, output};
use given::{NamedArgs, ValueArgs, read};
use manifests::{Manifest, Output};

/// What `mesh install` understands.
#[derive(Debug, clap::Args)]
pub(crate) struct InstallArgs {
    /// Only the custom resources; they are installed first.
    #[arg(long)]
    crds: bool,

    /// Ask no cluster whether there is a mesh already.
    #[arg(long)]
    ignore_cluster: bool,

    /// How manifests are written.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,

    #[command(flatten)]
    values: ValueArgs,

    #[command(flatten)]
    named: NamedArgs,

    #[command(flatten)]
    identity: IdentityArgs,

    #[command(flatten)]
    cluster: kube::Flags,
}

/// Credentials that somebody else made.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Identity")]
pub(crate) struct IdentityArgs {
    /// The trust anchors, PEM. Without the three files, the anchor and the issuer are made.
    #[arg(long, value_name = "FILE")]
    identity_trust_anchors_file: Option<PathBuf>,

    /// The issuer's certificate, PEM; what stands between it and the anchor may follow it.
    #[arg(long, value_name = "FILE", requires_all = ["identity_trust_anchors_file", "identity_issuer_key_file"])]
    identity_issuer_certificate_file: Option<PathBuf>,

    /// The issuer's private key, PEM.
    #[arg(long, value_name = "FILE", requires_all = ["identity_trust_anchors_file", "identity_issuer_certificate_file"])]
    identity_issuer_key_file: Option<PathBuf>,
}

impl IdentityArgs {
    fn over(&self, values: &mut Value) -> anyhow::Result<()> {
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
    let mut found = Found::default();
    if !args.ignore_cluster {
        let asked = kube::block_on(output::patiently("looking at the cluster", found_on(args)));
        found = asked.map_err(|error| match error.downcast_ref::<destination_source::Error>() {
            Some(_) => error
                .context("the cluster cannot be asked (to render the manifests without one, give --ignore-cluster)"),
            None => error,
        })?;
    }
    let manifests = rendered(args, &found, SystemTime::now())?;
    manifests::write(&manifests::text(&manifests, args.output))?;
    Ok(ExitCode::SUCCESS)
}

/// What a cluster says that the manifests follow.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The ports of the API server.
    pub(crate) api_server_ports: Option<String>,
}

impl Found {
    /// What nobody asked for is as the cluster has it.
    pub(crate) fn under(&self, values: &mut Value) -> anyhow::Result<()> {
        let said = values.pointer("/proxyInit/kubeAPIServerPorts").is_some();
        if let Some(ports) = self.api_server_ports.as_ref().filter(|_| !said) {
            mesh_charts::set_text(values, "proxyInit.kubeAPIServerPorts", ports.clone())?;
        }
        Ok(())
    }
}

/// Asks the cluster, and refuses one that cannot take a mesh.
async fn found_on(args: &InstallArgs) -> anyhow::Result<Found> {
    let client: Client = args.cluster.connect().await?;
    let there = present::control_planes(&client).await?;
    if args.crds {
        // Our own are older ones of these resources, and may be made newer.
        let others: Vec<_> = there.into_iter().filter(|there| !there.is_ours()).collect();
        present::refuse(&others, &args.cluster.linkerd_namespace)?;
        return Ok(Found::default());
    }
    present::refuse(&there, &args.cluster.linkerd_namespace)?;
    present::resources(&client, &args.cluster.linkerd_namespace).await?;
    Ok(Found {
        api_server_ports: present::api_server_ports(&client).await,
    })
}

fn rendered(args: &InstallArgs, found: &Found, now: SystemTime) -> anyhow::Result<Vec<Manifest>> {
    let namespace = &args.cluster.linkerd_namespace;
    if args.crds {
        // Whatever is said of the control plane is none of theirs.
        return manifests::render(Chart::Crds, namespace, &mesh_charts::parse("")?);
    }
    let mut values = mesh_charts::parse("")?;
    args.named.over(&mut values)?;
    args.values.over(&mut values)?;
    args.identity.over(&mut values)?;
    remember(&mut values)?;
    found.under(&mut values)?;
    credentials::fill(&mut values, now)?;
    manifests::render(Chart::ControlPlane, namespace, &values)
}

/// Writes down what was said, without secrets, for `mesh upgrade`.
pub(crate) fn remember(values: &mut Value) -> anyhow::Result<()> {
    let mut given = values.clone();
    credentials::take(&mut given);
    let map = given
        .as_object_mut()
        .context("the values are no map of names to values")?;
    map.remove("given");
    let text = if map.is_empty() {
        "{}\n".to_owned()
    } else {
        serde_yaml_ng::to_string(&given)?
    };
    mesh_charts::set_text(values, "given", text)?;
    Ok(())
}
