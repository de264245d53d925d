//! `mesh install`: the charts, rendered to stdout, with credentials of their own when none are given.
//!
//! ```text
//! values files, --set ─┐
//! cluster ─[refusals]──┼─[credentials]─▶ mesh-charts ─▶ stdout
//! identity files ──────┘
//! ```

mod credentials;

#[cfg(test)]
mod tests;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};

use anyhow::{Context as _, bail};
use destination_source::cluster::{self, ClientOptions, Presence};
use mesh_charts::{Chart, Release};
use serde_json::Value;

/// What `mesh install` understands.
#[derive(Debug, clap::Args)]
pub(crate) struct InstallArgs {
    /// Only the custom resources; they are installed first.
    #[arg(long)]
    crds: bool,

    /// Ask no cluster whether there is a mesh already.
    #[arg(long)]
    ignore_cluster: bool,

    /// A file of values, YAML; may be given several times, and a later one wins.
    #[arg(long, short = 'f', value_name = "FILE")]
    values: Vec<PathBuf>,

    /// A value, such as controllerReplicas=3; may be given several times, and wins over files.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,

    /// The namespace of the control plane.
    #[arg(
        long,
        short = 'L',
        value_name = "NAME",
        default_value = "linkerd",
        env = "LINKERD_NAMESPACE"
    )]
    linkerd_namespace: String,

    /// The trust anchors, PEM. Without the three files, the anchor and the issuer are made.
    #[arg(
        long,
        value_name = "FILE",
        requires_all = ["identity_issuer_certificate_file", "identity_issuer_key_file"]
    )]
    identity_trust_anchors_file: Option<PathBuf>,

    /// The issuer's certificate, PEM; what stands between it and the anchor may follow it.
    #[arg(long, value_name = "FILE", requires = "identity_trust_anchors_file")]
    identity_issuer_certificate_file: Option<PathBuf>,

    /// The issuer's private key, PEM.
    #[arg(long, value_name = "FILE", requires = "identity_trust_anchors_file")]
    identity_issuer_key_file: Option<PathBuf>,

    /// The kubeconfig that says where the cluster is; by default as kubectl finds it.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

/// `mesh install`
pub(crate) fn install(args: &InstallArgs) -> anyhow::Result<ExitCode> {
    let text = manifests(args, SystemTime::now())?;
    if !args.ignore_cluster {
        let presence = presence(args).map_err(|error| {
            anyhow::anyhow!("{error:#}; to render the manifests without asking a cluster, give --ignore-cluster")
        })?;
        refuse(args.crds, &presence)?;
    }
    // Everything is worked out before the first byte is written, so that `kubectl apply` never gets half of it.
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("cannot write the manifests")?;
    Ok(ExitCode::SUCCESS)
}

/// The manifests, and where in the chart each comes from.
fn manifests(args: &InstallArgs, now: SystemTime) -> anyhow::Result<String> {
    let chart = if args.crds { Chart::Crds } else { Chart::ControlPlane };
    let mut values = given(args)?;
    if chart == Chart::ControlPlane {
        credentials::fill(&mut values, now)?;
    }
    let release = Release {
        name: "mesh".to_owned(),
        namespace: args.linkerd_namespace.clone(),
        service: "CLI".to_owned(),
    };
    let files = mesh_charts::render(chart, &release, &values)?;
    let documents = files.iter().map(|(file, text)| {
        let text = text.trim();
        format!("---\n# Source: {}/templates/{file}\n{text}\n", chart.name())
    });
    Ok(documents.collect())
}

/// What the user says: files, then `--set`, then the identity files.
fn given(args: &InstallArgs) -> anyhow::Result<Value> {
    let mut values = mesh_charts::parse("")?;
    for file in &args.values {
        let text = read(file)?;
        let over = mesh_charts::parse(&text).with_context(|| format!("--values {}", file.display()))?;
        mesh_charts::merge(&mut values, &over);
    }
    for text in &args.set {
        mesh_charts::set(&mut values, text)?;
    }
    for (path, file) in [
        (credentials::ANCHORS, &args.identity_trust_anchors_file),
        (credentials::ISSUER_CERTIFICATE, &args.identity_issuer_certificate_file),
        (credentials::ISSUER_KEY, &args.identity_issuer_key_file),
    ] {
        if let Some(file) = file {
            credentials::put(&mut values, path, read(file)?);
        }
    }
    Ok(values)
}

fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))
}

fn presence(args: &InstallArgs) -> anyhow::Result<Presence> {
    let options = ClientOptions {
        kubeconfig: args.kubeconfig.clone(),
        context: args.context.clone(),
        ..ClientOptions::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(async { cluster::presence(&cluster::client(&options).await?).await })?)
}

/// Refuses to install beside another mesh, and the control plane before its resources.
fn refuse(crds: bool, presence: &Presence) -> anyhow::Result<()> {
    if crds {
        return Ok(());
    }
    if let Some(namespace) = presence.control_planes.first() {
        bail!(
            "there is a Linkerd or a mesh on the cluster already, in the namespace {namespace}: uninstall it first, or \
             render the manifests regardless with --ignore-cluster"
        );
    }
    if !presence.resources {
        bail!("the custom resources are not installed: run `mesh install --crds | kubectl apply -f -` first");
    }
    Ok(())
}
