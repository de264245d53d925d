//! Command lines of `inject` and `uninject`. Most flags correspond to an annotation, and are validated like it.

use std::path::PathBuf;

use anyhow::{Context, bail};
use destination_k8s::keys;
use destination_source::cluster::Resource;
use injector_patch::{Config, Injector, annotations as a, supports_native_sidecars};

use super::transform::{Mode, Transform};
use crate::{kube, output::DocumentFormat};

/// Add the sidecar to manifests.
#[derive(Debug, clap::Args)]
pub(crate) struct InjectArgs {
    /// File, directory, or - for stdin.
    #[arg(value_name = "FILE|DIR|-")]
    pub(crate) resource: String,

    /// Add the sidecar itself, instead of the annotation that requests it.
    #[arg(long)]
    manual: bool,
    /// YAML file with values of the control plane's chart; requires --manual.
    #[arg(long, value_name = "FILE", requires = "manual")]
    values: Option<PathBuf>,
    /// Trust anchors, PEM; requires --manual.
    #[arg(long, value_name = "FILE", requires = "manual")]
    identity_trust_anchors_file: Option<PathBuf>,
    /// Do not contact a cluster; only --manual without --values does, for the control plane's configuration.
    #[arg(long)]
    ignore_cluster: bool,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: DocumentFormat,
    /// Also report passed checks.
    #[arg(long)]
    pub(crate) verbose: bool,

    #[command(flatten)]
    cluster: kube::ClusterFlags,
    #[command(flatten)]
    proxy: ProxyFlags,
}

/// Flags that configure the sidecar.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Sidecar")]
struct ProxyFlags {
    /// Route requests by the l5d-dst-override header, for ingress controllers.
    #[arg(long)]
    ingress: bool,
    /// Run the sidecar as a native sidecar (an init container that keeps running).
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    native_sidecar: Option<String>,
    /// Add a debug container.
    #[arg(long)]
    enable_debug_sidecar: bool,
    /// Timeout for tracking half-closed connections.
    #[arg(long, value_name = "DURATION")]
    close_wait_timeout: Option<String>,
    /// Delay before the sidecar exits after SIGTERM (not for native sidecars).
    #[arg(long, value_name = "SECONDS")]
    wait_before_exit_seconds: Option<String>,
    /// Time limit for draining connections.
    #[arg(long, value_name = "DURATION")]
    shutdown_grace_period: Option<String>,
    /// Inbound ports that require an identity of clients.
    #[arg(long, value_name = "PORTS")]
    require_identity_on_inbound_ports: Option<String>,
    /// Opaque ports, proxied without protocol detection.
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
    /// Image pull policy.
    #[arg(long, value_name = "POLICY")]
    image_pull_policy: Option<String>,
    /// Inbound port of the sidecar.
    #[arg(long, value_name = "PORT")]
    inbound_port: Option<String>,
    /// Outbound port of the sidecar.
    #[arg(long, value_name = "PORT")]
    outbound_port: Option<String>,
    /// Tap port of the sidecar.
    #[arg(long, value_name = "PORT")]
    control_port: Option<String>,
    /// Admin port of the sidecar (metrics and probes).
    #[arg(long, value_name = "PORT")]
    admin_port: Option<String>,
    /// Inbound ports that bypass the sidecar.
    #[arg(long, value_name = "PORTS")]
    skip_inbound_ports: Option<String>,
    /// Outbound ports that bypass the sidecar.
    #[arg(long, value_name = "PORTS")]
    skip_outbound_ports: Option<String>,
    /// Client networks that bypass the sidecar.
    #[arg(long, value_name = "NETWORKS")]
    skip_subnets: Option<String>,
    /// User ID of the sidecar.
    #[arg(long, value_name = "UID")]
    proxy_uid: Option<String>,
    /// Group ID of the sidecar.
    #[arg(long, value_name = "GID")]
    proxy_gid: Option<String>,
    /// Log filter of the sidecar.
    #[arg(long, value_name = "FILTER")]
    proxy_log_level: Option<String>,
    /// Access log of the sidecar: apache or json.
    #[arg(long, value_name = "FORMAT")]
    access_log: Option<String>,
    /// CPU request of the sidecar.
    #[arg(long, value_name = "AMOUNT")]
    proxy_cpu_request: Option<String>,
    /// CPU limit of the sidecar.
    #[arg(long, value_name = "AMOUNT")]
    proxy_cpu_limit: Option<String>,
    /// Memory request of the sidecar.
    #[arg(long, value_name = "AMOUNT")]
    proxy_memory_request: Option<String>,
    /// Memory limit of the sidecar.
    #[arg(long, value_name = "AMOUNT")]
    proxy_memory_limit: Option<String>,
    /// Discover profiles for names outside the cluster.
    #[arg(long)]
    enable_external_profiles: bool,
    /// Default policy for inbound traffic.
    #[arg(long, value_name = "POLICY")]
    default_inbound_policy: Option<String>,
}

/// Remove the sidecar from manifests.
#[derive(Debug, clap::Args)]
pub(crate) struct UninjectArgs {
    /// File, directory, or - for stdin.
    #[arg(value_name = "FILE|DIR|-")]
    pub(crate) resource: String,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: DocumentFormat,
}

impl ProxyFlags {
    /// Converts flags to annotations.
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
    /// Builds the transformation.
    pub(crate) fn transform(&self) -> anyhow::Result<Transform> {
        let config = self.config()?;
        let annotations = self.proxy.annotations(&config.image_name(&config.proxy.image));
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
        let is_given = self.values.is_some() || self.identity_trust_anchors_file.is_some();
        if self.manual && !is_given && !self.ignore_cluster {
            return kube::block_on(installed(&self.cluster));
        }
        let mut config = match &self.values {
            Some(file) => values(file).with_context(|| format!("invalid --values {}", file.display()))?,
            None => Config::default(),
        };
        config.linkerd_namespace.clone_from(&self.cluster.linkerd_namespace);
        if let Some(file) = &self.identity_trust_anchors_file {
            let anchors = std::fs::read_to_string(file);
            config.identity_trust_anchors_pem =
                anchors.with_context(|| format!("cannot read --identity-trust-anchors-file {}", file.display()))?;
            // A sidecar without valid anchors would never start.
            identity_x509::Anchors::from_pem(&config.identity_trust_anchors_pem)
                .with_context(|| format!("invalid --identity-trust-anchors-file {}", file.display()))?;
        }
        if self.manual && config.identity_trust_anchors_pem.trim().is_empty() {
            bail!(
                "--manual requires the trust anchors: use --identity-trust-anchors-file, or --values with a file that \
                contains them"
            );
        }
        if !self.manual {
            // Not written anywhere: only needed to validate annotations as the cluster will.
            "unused".clone_into(&mut config.identity_trust_anchors_pem);
            "unused".clone_into(&mut config.debug_container.image.name);
        }
        Ok(config)
    }
}

/// Reads the injector's configuration from a cluster.
async fn installed(flags: &kube::ClusterFlags) -> anyhow::Result<Config> {
    let client = flags.connect().await?;
    let namespace = &flags.linkerd_namespace;
    let text = async |name: &str, key: &str| {
        let maps = Resource::new("v1", "configmaps").within(namespace);
        let map = maps.find(&client, name).await?;
        let text = map.as_ref().and_then(|map| map["data"][key].as_str());
        let missing = || {
            format!(
                "no control plane is installed in the namespace {namespace} (the ConfigMap {name} has no {key}): install one, \
                select its namespace with -L, or use --values and --identity-trust-anchors-file"
            )
        };
        text.map(str::to_owned).with_context(missing)
    };
    let values = destination_yaml::one(&text("linkerd-config", "values").await?)
        .context("cannot parse the values in the ConfigMap linkerd-config")?;
    let mut config = Config::from_values(&values)?;
    config.linkerd_namespace.clone_from(namespace);
    config.identity_trust_anchors_pem = text("linkerd-identity-trust-roots", "ca-bundle.crt").await?;
    config.no_native_sidecars = !supports_native_sidecars(&client.version().await?);
    Ok(config)
}

fn values(file: &PathBuf) -> anyhow::Result<Config> {
    let values = destination_yaml::one(&std::fs::read_to_string(file)?)?;
    Ok(Config::from_values(&values)?)
}
