//! Chart values given by the user: files, flags for single values, then `--set`, as in Linkerd and Helm.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use mesh_charts::Chart;
use serde_json::Value;

/// Flags for arbitrary values.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Values")]
pub(crate) struct ValueArgs {
    /// YAML file with chart values; may be repeated, later files take precedence.
    #[arg(long, short = 'f', value_name = "FILE")]
    values: Vec<PathBuf>,

    /// Chart value (for example controllerReplicas=3); may be repeated, takes precedence over files.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,

    /// Chart value, taken as text.
    #[arg(long, value_name = "NAME=VALUE")]
    set_string: Vec<String>,

    /// Chart value, read from a file.
    #[arg(long, value_name = "NAME=FILE")]
    set_file: Vec<String>,
}

/// Flags that each set one chart value, with Linkerd's names.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Values by name")]
pub(crate) struct NamedArgs {
    /// High availability: three replicas per component, anti-affinity, fail-closed webhook.
    #[arg(long)]
    ha: bool,

    /// Use the CNI plugin instead of an init container for redirection.
    #[arg(long)]
    linkerd_cni_enabled: bool,

    /// DNS domain of the cluster.
    #[arg(long, value_name = "NAME")]
    cluster_domain: Option<String>,

    /// Trust domain of identities.
    #[arg(long, value_name = "NAME")]
    identity_trust_domain: Option<String>,

    /// Validity of workload certificates.
    #[arg(long, value_name = "DURATION")]
    identity_issuance_lifetime: Option<String>,

    /// Allowed clock skew between workloads.
    #[arg(long, value_name = "DURATION")]
    identity_clock_skew_allowance: Option<String>,

    /// Use an existing issuer Secret (for example from cert-manager).
    #[arg(long)]
    identity_external_issuer: bool,

    /// Use an existing trust anchor ConfigMap (for example from trust-manager).
    #[arg(long)]
    identity_external_ca: bool,

    /// Replicas of each control plane component.
    #[arg(long, value_name = "NUMBER")]
    controller_replicas: Option<u32>,

    /// Log filter of the control plane.
    #[arg(long, value_name = "FILTER")]
    controller_log_level: Option<String>,

    /// Default policy for inbound traffic.
    #[arg(long, value_name = "POLICY")]
    default_inbound_policy: Option<String>,

    /// Log filter of sidecars.
    #[arg(long, value_name = "FILTER")]
    proxy_log_level: Option<String>,

    /// Image pull policy.
    #[arg(long, value_name = "POLICY")]
    image_pull_policy: Option<String>,

    /// Registry of the images (for example registry.example.org/mesh).
    #[arg(long, value_name = "REGISTRY", env = "LINKERD_DOCKER_REGISTRY")]
    registry: Option<String>,
}

impl ValueArgs {
    /// Sets the values of the given flags.
    pub(crate) fn apply_to(&self, values: &mut Value) -> anyhow::Result<()> {
        for file in &self.values {
            let over =
                mesh_charts::parse(&read(file)?).with_context(|| format!("invalid --values {}", file.display()))?;
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
                bail!("invalid --set-file {text:?}: expected NAME=FILE");
            };
            mesh_charts::set_text(values, path, read(Path::new(file))?)?;
        }
        Ok(())
    }
}

impl NamedArgs {
    /// Sets the values of the given flags.
    pub(crate) fn apply_to(&self, values: &mut Value) -> anyhow::Result<()> {
        if self.ha
            && let Some(high) = Chart::ControlPlane.high_availability()
        {
            mesh_charts::merge(values, &mesh_charts::parse(high)?);
        }
        let switches = [
            ("cniEnabled", self.linkerd_cni_enabled),
            ("identity.externalCA", self.identity_external_ca),
        ];
        for (path, _) in switches.into_iter().filter(|(_, is_set)| *is_set) {
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
            ("imageRegistry", &self.registry),
        ];
        for (path, text) in texts {
            if let Some(text) = text {
                mesh_charts::set_text(values, path, text.clone())?;
            }
        }
        Ok(())
    }
}

/// Reads a file named by a flag.
pub(super) fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}
