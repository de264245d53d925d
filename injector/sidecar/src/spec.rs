//! The resolved sidecar of one pod, in types; renderers turn it into JSON, a process or a chart.

use std::{borrow::Cow, fmt, time::Duration};

use proxy_model::{duration, policy::DefaultPolicy, ports::PortSet};
use serde_json::{Map, Value};

use crate::{
    config::{Ports, Probe, Resources},
    redirection::Redirection,
};

/// Sidecar of one pod.
#[derive(Clone, Debug, PartialEq)]
pub struct SidecarSpec {
    /// Native sidecar: an init container with `restartPolicy: Always`.
    pub native: bool,
    /// The application's containers start once the sidecar is ready.
    pub awaits_ready: bool,
    /// Image.
    pub image: ImageRef,
    /// Listeners.
    pub ports: Ports,
    /// Settings that the environment is made from.
    pub proxy: ProxySettings,
    /// Environment, in order: `$(NAME)` refers to an earlier variable.
    pub env: Vec<(EnvName, EnvValue)>,
    /// Probes.
    pub probes: Probes,
    /// Container hooks.
    pub lifecycle: Lifecycle,
    /// Resource requests and limits, of the init container too.
    pub resources: Resources,
    /// Security context.
    pub security: SecurityContext,
    /// Mounts a token with the mesh's audience.
    pub projects_token: bool,
    /// Mounts the pod's labels and annotations, for spans.
    pub mounts_podinfo: bool,
    /// Traffic redirection.
    pub redirection: Redirection,
    /// Debug container.
    pub debug: Option<ImageRef>,
}

/// Settings of the proxy itself.
#[derive(Clone, Debug, PartialEq)]
pub struct ProxySettings {
    /// Takes destinations from a request header, for ingress controllers.
    pub ingress: bool,
    /// Forwards requests of other clusters.
    pub gateway: bool,
    /// Log filter.
    pub log: String,
    /// Log format.
    pub log_format: String,
    /// Access log format; none disables the access log.
    pub access_log: Option<String>,
    /// Opaque ports.
    pub opaque_ports: PortSet,
    /// Ports whose policy is watched from startup.
    pub inbound_ports: PortSet,
    /// Ports that require a client identity.
    pub require_identity: PortSet,
    /// Default inbound policy.
    pub default_policy: DefaultPolicy,
    /// Serves ports by the default policy until theirs is known.
    pub fail_open: bool,
    /// Refuses paths that the application may read differently from the policy.
    pub path_check: bool,
    /// Worker threads.
    pub workers: Workers,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Looks up ServiceProfiles for names outside the cluster as well.
    pub external_profiles: bool,
    /// Adds hostname labels to outbound metrics.
    pub hostname_labels: bool,
    /// Allows POST /shutdown.
    pub admin_shutdown: bool,
    /// Serves tap.
    pub tap: bool,
}

/// Image of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRef {
    /// Name without a tag.
    pub name: String,
    /// Tag.
    pub version: String,
    /// Pull policy.
    pub pull_policy: String,
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.version)
    }
}

/// Bounds of worker threads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Workers {
    /// Lower bound.
    pub min: Option<u32>,
    /// Upper bound.
    pub max: Option<u32>,
    /// Upper bound as a fraction of the machine's cores.
    pub ratio: Option<f64>,
}

/// Timeouts of the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Connect to an endpoint.
    pub outbound_connect: EnvDuration,
    /// Connect to the application.
    pub inbound_connect: EnvDuration,
    /// Unused outbound lookup.
    pub outbound_discovery_idle: EnvDuration,
    /// Unused inbound lookup.
    pub inbound_discovery_idle: EnvDuration,
    /// Outbound protocol detection; none leaves the proxy's default.
    pub outbound_detect: Option<EnvDuration>,
    /// Inbound protocol detection; none leaves the proxy's default.
    pub inbound_detect: Option<EnvDuration>,
    /// First answer of a control plane stream.
    pub stream_initial: EnvDuration,
    /// Idle control plane stream.
    pub stream_idle: EnvDuration,
    /// Lifetime of a control plane stream.
    pub stream_lifetime: EnvDuration,
    /// Drain; none leaves the proxy's default.
    pub shutdown_grace: Option<EnvDuration>,
}

/// A duration with its spelling in the environment: the chart's own is kept, so that a pod shows what its operator
/// wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvDuration {
    value: Duration,
    text: String,
}

impl EnvDuration {
    /// Parses the proxy's form, an integer with a unit, and keeps the spelling.
    pub fn parse(text: &str) -> Option<Self> {
        let value = duration::linkerd(text)?;
        Some(Self {
            value,
            text: text.to_owned(),
        })
    }

    /// Spells a duration in milliseconds.
    pub fn from_millis(value: Duration) -> Self {
        let text = format!("{}ms", value.as_millis());
        Self { value, text }
    }

    /// Spells a duration in whole seconds where that is exact, else in milliseconds.
    pub fn from_seconds(value: Duration) -> Self {
        if value.subsec_millis() == 0 {
            let text = format!("{}s", value.as_secs());
            Self { value, text }
        } else {
            Self::from_millis(value)
        }
    }

    /// Returns the duration.
    pub fn value(&self) -> Duration {
        self.value
    }
}

impl fmt::Display for EnvDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Name of an environment variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvName(Cow<'static, str>);

impl EnvName {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&'static str> for EnvName {
    fn from(name: &'static str) -> Self {
        Self(name.into())
    }
}

impl From<String> for EnvName {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for EnvName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Value of an environment variable.
#[derive(Clone, Debug, PartialEq)]
pub enum EnvValue {
    /// Text, with `$(NAME)` for earlier variables.
    Literal(String),
    /// Field of the pod (`metadata.name`).
    Field(&'static str),
    /// Key of a ConfigMap in the pod's namespace.
    ConfigMap {
        /// ConfigMap.
        name: &'static str,
        /// Key.
        key: &'static str,
    },
    /// Kubernetes' own form, from the author of an additional variable.
    Manifest(Map<String, Value>),
}

/// Probes of the sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probes {
    /// Startup probe: native sidecars that the application waits for.
    pub startup: Option<HttpProbe>,
    /// Liveness probe.
    pub liveness: HttpProbe,
    /// Readiness probe.
    pub readiness: HttpProbe,
}

/// HTTP probe on the admin port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpProbe {
    /// Path.
    pub path: &'static str,
    /// Port.
    pub port: u16,
    /// Times and threshold; unset means Kubernetes' default.
    pub settings: Probe,
}

impl HttpProbe {
    /// Delay before the first probe.
    pub fn initial_delay(&self) -> Duration {
        seconds(self.settings.initial_delay_seconds, 0)
    }

    /// Pause between probes.
    pub fn period(&self) -> Duration {
        seconds(self.settings.period_seconds, 10)
    }

    /// Timeout of one probe.
    pub fn timeout(&self) -> Duration {
        seconds(self.settings.timeout_seconds, 1)
    }

    /// Consecutive failures that count.
    pub fn failure_threshold(&self) -> u32 {
        self.settings.failure_threshold.unwrap_or(3)
    }
}

fn seconds(value: Option<u32>, default: u32) -> Duration {
    Duration::from_secs(value.unwrap_or(default).into())
}

/// Hooks of a sidecar that is not native.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lifecycle {
    /// Command that blocks until the sidecar is ready; the kubelet starts the application's containers afterwards.
    pub post_start: Option<Vec<String>>,
    /// Time that the sidecar keeps running after the stop signal.
    pub pre_stop_sleep: Option<Duration>,
}

/// Security context of the sidecar.
#[derive(Clone, Debug, PartialEq)]
pub struct SecurityContext {
    /// User ID; its traffic is exempt from redirection.
    pub uid: i64,
    /// Group ID; its traffic is exempt from redirection.
    pub gid: Option<i64>,
    /// Replaces the restricted context as a whole.
    pub custom: Option<Value>,
}
