//! The command lines. Almost every flag stands for an annotation, and is checked as the webhook would check it.

use std::path::PathBuf;

use anyhow::{Context, bail};
use destination_k8s::keys;
use destination_source::cluster::Resource;
use injector_patch::{Config, Injector, annotations as a, supports_native_sidecars};
use serde_json::Value;

use super::{
    Output,
    transform::{Mode, Transform},
};
use crate::kube;

/// Add the sidecar to manifests.
#[derive(Debug, clap::Args)]
pub(crate) struct InjectArgs {
    /// A file, a folder, or - for stdin.
    #[arg(value_name = "FILE|DIR|-")]
    pub(crate) resource: String,

    /// Write the sidecar itself into the manifests, instead of the annotation that lets the cluster add it.
    #[arg(long)]
    manual: bool,
    /// With --manual: the values of the control plane's chart, YAML.
    #[arg(long, value_name = "FILE", requires = "manual")]
    values: Option<PathBuf>,
    /// With --manual: the trust anchors, PEM.
    #[arg(long, value_name = "FILE", requires = "manual")]
    identity_trust_anchors_file: Option<PathBuf>,
    /// Ask no cluster. One is asked only by --manual without --values, for what its control plane injects.
    #[arg(long)]
    ignore_cluster: bool,
    /// How manifests are written.
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Output,
    /// Report also what is right.
    #[arg(long)]
    pub(crate) verbose: bool,

    #[command(flatten)]
    cluster: kube::Flags,
    #[command(flatten)]
    proxy: ProxyFlags,
}

/// What is said of the sidecar.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "The sidecar")]
struct ProxyFlags {
    /// Take requests' destinations from a header, for ingress controllers.
    #[arg(long)]
    ingress: bool,
    /// Whether the sidecar is an init container that stays.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    native_sidecar: Option<String>,
    /// Add a debug container.
    #[arg(long)]
    enable_debug_sidecar: bool,
    /// Time that half-closed connections are tracked.
    #[arg(long, value_name = "DURATION")]
    close_wait_timeout: Option<String>,
    /// Time that the sidecar outlives the signal to stop (not for native sidecars).
    #[arg(long, value_name = "SECONDS")]
    wait_before_exit_seconds: Option<String>,
    /// Time that a drain may take.
    #[arg(long, value_name = "DURATION")]
    shutdown_grace_period: Option<String>,
    /// Ports whose clients must have an identity.
    #[arg(long, value_name = "PORTS")]
    require_identity_on_inbound_ports: Option<String>,
    /// Ports that are bytes.
    #[arg(long, value_name = "PORTS")]
    opaque_ports: Option<String>,
    /// Name of the sidecar's image.
    #[arg(long, value_name = "NAME")]
    proxy_image: Option<String>,
    /// Registry of the sidecar's image.
    #[arg(long, value_name = "NAME", env = "LINKERD_DOCKER_REGISTRY")]
    registry: Option<String>,
    /// Tag of the sidecar's image.
    #[arg(long, value_name = "TAG")]
    proxy_version: Option<String>,
    /// When images are pulled.
    #[arg(long, value_name = "POLICY")]
    image_pull_policy: Option<String>,
    /// Port for redirected traffic to the application.
    #[arg(long, value_name = "PORT")]
    inbound_port: Option<String>,
    /// Port for redirected traffic of the application.
    #[arg(long, value_name = "PORT")]
    outbound_port: Option<String>,
    /// Port of tap.
    #[arg(long, value_name = "PORT")]
    control_port: Option<String>,
    /// Port of metrics and probes.
    #[arg(long, value_name = "PORT")]
    admin_port: Option<String>,
    /// Ports that the sidecar never sees, inbound.
    #[arg(long, value_name = "PORTS")]
    skip_inbound_ports: Option<String>,
    /// Ports that the sidecar never sees, outbound.
    #[arg(long, value_name = "PORTS")]
    skip_outbound_ports: Option<String>,
    /// Clients whose connections the sidecar never sees.
    #[arg(long, value_name = "NETWORKS")]
    skip_subnets: Option<String>,
    /// User of the sidecar.
    #[arg(long, value_name = "UID")]
    proxy_uid: Option<String>,
    /// Group of the sidecar.
    #[arg(long, value_name = "GID")]
    proxy_gid: Option<String>,
    /// Log filter of the sidecar.
    #[arg(long, value_name = "FILTER")]
    proxy_log_level: Option<String>,
    /// Access log of the sidecar: apache or json.
    #[arg(long, value_name = "FORMAT")]
    access_log: Option<String>,
    /// CPU that the sidecar asks for.
    #[arg(long, value_name = "AMOUNT")]
    proxy_cpu_request: Option<String>,
    /// CPU that the sidecar may use.
    #[arg(long, value_name = "AMOUNT")]
    proxy_cpu_limit: Option<String>,
    /// Memory that the sidecar asks for.
    #[arg(long, value_name = "AMOUNT")]
    proxy_memory_request: Option<String>,
    /// Memory that the sidecar may use.
    #[arg(long, value_name = "AMOUNT")]
    proxy_memory_limit: Option<String>,
    /// Look profiles up for names outside the cluster, too.
    #[arg(long)]
    enable_external_profiles: bool,
    /// Policy of ports without a Server.
    #[arg(long, value_name = "POLICY")]
    default_inbound_policy: Option<String>,
}

/// Take the sidecar out of manifests.
#[derive(Debug, clap::Args)]
pub(crate) struct UninjectArgs {
    /// A file, a folder, or - for stdin.
    #[arg(value_name = "FILE|DIR|-")]
    pub(crate) resource: String,
    /// How manifests are written.
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Output,
}

impl ProxyFlags {
    /// The annotations that flags stand for.
    fn annotations(&self, image: &str) -> Vec<(String, String)> {
        let yes = |flag: bool| flag.then(|| "true".to_owned());
        let renamed = self.registry.as_ref().map(|registry| {
            let name = self.proxy_image.as_deref().unwrap_or(image);
            let last = name.rsplit('/').next().unwrap_or(name);
            format!("{}/{last}", registry.trim_end_matches('/'))
        });
        let all = [
            (keys::INJECT, self.ingress.then(|| "ingress".to_owned())),
            (a::NATIVE_SIDECAR, self.native_sidecar.clone()),
            (a::ENABLE_DEBUG_SIDECAR, yes(self.enable_debug_sidecar)),
            (a::CLOSE_WAIT_TIMEOUT, self.close_wait_timeout.clone()),
            (a::WAIT_BEFORE_EXIT, self.wait_before_exit_seconds.clone()),
            (a::SHUTDOWN_GRACE_PERIOD, self.shutdown_grace_period.clone()),
            (
                a::REQUIRE_IDENTITY_PORTS,
                self.require_identity_on_inbound_ports.clone(),
            ),
            (a::OPAQUE_PORTS, self.opaque_ports.clone()),
            (a::PROXY_IMAGE, renamed.or_else(|| self.proxy_image.clone())),
            (a::PROXY_VERSION, self.proxy_version.clone()),
            (a::IMAGE_PULL_POLICY, self.image_pull_policy.clone()),
            (a::INBOUND_PORT, self.inbound_port.clone()),
            (a::OUTBOUND_PORT, self.outbound_port.clone()),
            (a::CONTROL_PORT, self.control_port.clone()),
            (a::ADMIN_PORT, self.admin_port.clone()),
            (a::SKIP_INBOUND_PORTS, self.skip_inbound_ports.clone()),
            (a::SKIP_OUTBOUND_PORTS, self.skip_outbound_ports.clone()),
            (a::SKIP_SUBNETS, self.skip_subnets.clone()),
            (a::PROXY_UID, self.proxy_uid.clone()),
            (a::PROXY_GID, self.proxy_gid.clone()),
            (a::PROXY_LOG_LEVEL, self.proxy_log_level.clone()),
            (a::ACCESS_LOG, self.access_log.clone()),
            (a::PROXY_CPU_REQUEST, self.proxy_cpu_request.clone()),
            (a::PROXY_CPU_LIMIT, self.proxy_cpu_limit.clone()),
            (a::PROXY_MEMORY_REQUEST, self.proxy_memory_request.clone()),
            (a::PROXY_MEMORY_LIMIT, self.proxy_memory_limit.clone()),
            (a::ENABLE_EXTERNAL_PROFILES, yes(self.enable_external_profiles)),
            (a::DEFAULT_INBOUND_POLICY, self.default_inbound_policy.clone()),
        ];
        all.into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)))
            .collect()
    }
}

impl InjectArgs {
    /// What is done to objects.
    pub(crate) fn transform(&self) -> anyhow::Result<Transform> {
        let config = self.config()?;
        let annotations = self.proxy.annotations(&config.proxy.image.name);
        let mode = if self.manual { Mode::Manual } else { Mode::Annotate };
        let transform = Transform {
            mode,
            injector: Injector::new(config)?,
            annotations,
            opaque_ports: self.proxy.opaque_ports.clone(),
        };
        transform.check_flags()?;
        Ok(transform)
    }

    fn config(&self) -> anyhow::Result<Config> {
        let told = self.values.is_some() || self.identity_trust_anchors_file.is_some();
        if self.manual && !told && !self.ignore_cluster {
            return kube::block_on(installed(&self.cluster));
        }
        let mut config = match &self.values {
            Some(file) => values(file).with_context(|| format!("the values {} cannot be used", file.display()))?,
            None => Config::default(),
        };
        config.linkerd_namespace.clone_from(&self.cluster.linkerd_namespace);
        if let Some(file) = &self.identity_trust_anchors_file {
            let anchors = std::fs::read_to_string(file);
            config.identity_trust_anchors_pem =
                anchors.with_context(|| format!("the trust anchors {} cannot be read", file.display()))?;
            // A sidecar with anything else would never start.
            identity_x509::Anchors::from_pem(&config.identity_trust_anchors_pem)
                .with_context(|| format!("--identity-trust-anchors-file {}", file.display()))?;
        }
        if self.manual && config.identity_trust_anchors_pem.trim().is_empty() {
            bail!(
                "--manual needs the trust anchors: name their file by --identity-trust-anchors-file, or values that hold \
                 them by --values"
            );
        }
        if !self.manual {
            // Nothing of this is written; it only lets annotations be checked as the cluster will.
            "unused".clone_into(&mut config.identity_trust_anchors_pem);
            "unused".clone_into(&mut config.debug_container.image.name);
        }
        Ok(config)
    }
}

/// What the control plane of a cluster injects.
async fn installed(flags: &kube::Flags) -> anyhow::Result<Config> {
    let client = flags.connect().await?;
    let namespace = &flags.linkerd_namespace;
    let text = async |name: &str, key: &str| {
        let maps = Resource::new("v1", "configmaps").within(namespace);
        let map = maps.find(&client, name).await?;
        let text = map.as_ref().and_then(|map| map["data"][key].as_str());
        let missing = || {
            format!(
                "no control plane is in the namespace {namespace} (its ConfigMap {name} has no {key}): install one, name \
                 its namespace by -L, or name files by --values and --identity-trust-anchors-file"
            )
        };
        text.map(str::to_owned).with_context(missing)
    };
    let values: Value = serde_yaml_ng::from_str(&text("linkerd-config", "values").await?)
        .context("the values in the ConfigMap linkerd-config are no YAML")?;
    let mut config = Config::from_values(&values)?;
    config.linkerd_namespace.clone_from(namespace);
    config.identity_trust_anchors_pem = text("linkerd-identity-trust-roots", "ca-bundle.crt").await?;
    config.no_native_sidecars = !supports_native_sidecars(&client.version().await?);
    Ok(config)
}

fn values(file: &PathBuf) -> anyhow::Result<Config> {
    let values: Value = serde_yaml_ng::from_str(&std::fs::read_to_string(file)?)?;
    Ok(Config::from_values(&values)?)
}
