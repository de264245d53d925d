//! What the user says of values: files, then flags that are names for a value, then `--set`, as Linkerd and Helm have them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use mesh_charts::Chart;
use serde_json::Value;

/// Where values come from.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Values")]
pub(crate) struct ValueArgs {
    /// A file of values, YAML; may be given several times, and a later one wins.
    #[arg(long, short = 'f', value_name = "FILE")]
    values: Vec<PathBuf>,

    /// A value, such as controllerReplicas=3; may be given several times, and wins over files.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,

    /// A value that is text, whatever it looks like.
    #[arg(long, value_name = "NAME=VALUE")]
    set_string: Vec<String>,

    /// A value that is the text of a file.
    #[arg(long, value_name = "NAME=FILE")]
    set_file: Vec<String>,
}

/// Flags that stand for a value each, by Linkerd's names.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Values by name")]
pub(crate) struct NamedArgs {
    /// Three of everything, on different nodes; a pod does not start without its sidecar.
    #[arg(long)]
    ha: bool,

    /// A CNI plugin redirects, instead of an init container.
    #[arg(long)]
    linkerd_cni_enabled: bool,

    /// The domain of the cluster's DNS names.
    #[arg(long, value_name = "NAME")]
    cluster_domain: Option<String>,

    /// The suffix of all identities.
    #[arg(long, value_name = "NAME")]
    identity_trust_domain: Option<String>,

    /// How long a workload's certificate is valid.
    #[arg(long, value_name = "DURATION")]
    identity_issuance_lifetime: Option<String>,

    /// How far the clocks of workloads may differ.
    #[arg(long, value_name = "DURATION")]
    identity_clock_skew_allowance: Option<String>,

    /// The issuer's Secret is there already, as cert-manager makes it.
    #[arg(long)]
    identity_external_issuer: bool,

    /// The ConfigMap of the trust anchors is there already, as trust-manager makes it.
    #[arg(long)]
    identity_external_ca: bool,

    /// How many pods each part of the control plane has.
    #[arg(long, value_name = "NUMBER")]
    controller_replicas: Option<u32>,

    /// What each part of the control plane logs.
    #[arg(long, value_name = "FILTER")]
    controller_log_level: Option<String>,

    /// Which clients may come when no policy says so.
    #[arg(long, value_name = "POLICY")]
    default_inbound_policy: Option<String>,

    /// What sidecars log.
    #[arg(long, value_name = "FILTER")]
    proxy_log_level: Option<String>,

    /// When images are pulled.
    #[arg(long, value_name = "POLICY")]
    image_pull_policy: Option<String>,

    /// Where the images are, such as registry.example.org/mesh.
    #[arg(long, value_name = "REGISTRY", env = "LINKERD_DOCKER_REGISTRY")]
    registry: Option<String>,
}

impl ValueArgs {
    /// Lays what they say over `values`.
    pub(crate) fn over(&self, values: &mut Value) -> anyhow::Result<()> {
        for file in &self.values {
            let over = mesh_charts::parse(&read(file)?).with_context(|| format!("--values {}", file.display()))?;
            mesh_charts::merge(values, &over);
        }
        for text in &self.set {
            mesh_charts::set(values, text)?;
        }
        for text in &self.set_string {
            mesh_charts::set_string(values, text)?;
        }
        for text in &self.set_file {
            let Some((path, file)) = text.split_once('=') else {
                bail!("--set-file: {text:?} is not NAME=FILE");
            };
            mesh_charts::set_text(values, path, read(Path::new(file))?)?;
        }
        Ok(())
    }
}

impl NamedArgs {
    /// Lays what they say over `values`.
    pub(crate) fn over(&self, values: &mut Value) -> anyhow::Result<()> {
        if self.ha
            && let Some(high) = Chart::ControlPlane.high_availability()
        {
            mesh_charts::merge(values, &mesh_charts::parse(high)?);
        }
        let truths = [
            ("cniEnabled", self.linkerd_cni_enabled),
            ("identity.externalCA", self.identity_external_ca),
        ];
        for (path, _) in truths.into_iter().filter(|(_, said)| *said) {
            mesh_charts::set(values, &format!("{path}=true"))?;
        }
        if self.identity_external_issuer {
            mesh_charts::set(values, "identity.issuer.scheme=kubernetes.io/tls")?;
        }
        if let Some(replicas) = self.controller_replicas {
            mesh_charts::set(values, &format!("controllerReplicas={replicas}"))?;
        }
        let texts = [
            ("clusterDomain", &self.cluster_domain),
            ("identityTrustDomain", &self.identity_trust_domain),
            ("identity.issuer.issuanceLifetime", &self.identity_issuance_lifetime),
            (
                "identity.issuer.clockSkewAllowance",
                &self.identity_clock_skew_allowance,
            ),
            ("controllerLogLevel", &self.controller_log_level),
            ("proxy.defaultInboundPolicy", &self.default_inbound_policy),
            ("proxy.logLevel", &self.proxy_log_level),
            ("imagePullPolicy", &self.image_pull_policy),
        ];
        for (path, text) in texts {
            if let Some(text) = text {
                mesh_charts::set_text(values, path, text.clone())?;
            }
        }
        self.registry
            .as_deref()
            .map_or(Ok(()), |registry| from_registry(values, registry))
    }
}

/// The images of the chart, from another registry.
fn from_registry(values: &mut Value, registry: &str) -> anyhow::Result<()> {
    let defaults = Chart::ControlPlane.values(&mesh_charts::parse("")?)?;
    for (part, value) in defaults.as_object().into_iter().flatten() {
        let name = value.pointer("/image/name").and_then(Value::as_str).unwrap_or_default();
        if let Some((_, image)) = name.rsplit_once('/') {
            let name = format!("{}/{image}", registry.trim_end_matches('/'));
            mesh_charts::set_text(values, &format!("{part}.image.name"), name)?;
        }
    }
    Ok(())
}

/// The text of a file that a flag names.
pub(super) fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))
}
