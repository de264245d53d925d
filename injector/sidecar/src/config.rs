//! Mesh-wide configuration: the chart's values that matter to sidecars, under Linkerd's names and with Linkerd's
//! defaults. Annotations override them per pod, see [`crate::resolve`].

use std::collections::BTreeMap;

use proxy_model::{defaults, identity::MeshNames, policy::DefaultPolicy, ports};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Value;

use crate::{Error, parse};

/// Values of the control plane's chart. Values of other components are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
    /// Namespace of the control plane.
    pub linkerd_namespace: String,
    /// Version recorded on injected pods.
    pub linkerd_version: String,
    /// DNS domain of the cluster.
    pub cluster_domain: String,
    /// Networks of pods, Services and nodes, comma-separated CIDRs.
    pub cluster_networks: String,
    /// Trust domain; empty means the cluster domain.
    pub identity_trust_domain: String,
    /// Trust anchors, PEM.
    #[serde(rename = "identityTrustAnchorsPEM")]
    pub identity_trust_anchors_pem: String,
    /// Redirection by a CNI plugin instead of an init container.
    pub cni_enabled: bool,
    /// Set when the cluster does not support native sidecars (before Kubernetes 1.29). Not a chart value.
    #[serde(skip)]
    pub no_native_sidecars: bool,
    /// Leaves IPv6 traffic alone.
    #[serde(rename = "disableIPv6")]
    pub disable_ipv6: bool,
    /// Registry of images whose name has none.
    pub image_registry: String,
    /// Pull policy of images that set none.
    pub image_pull_policy: String,
    /// Sidecar container.
    pub proxy: Proxy,
    /// Init container that installs the redirection rules.
    pub proxy_init: ProxyInit,
    /// Init container that checks the CNI plugin's redirection.
    pub network_validator: NetworkValidator,
    /// Debug container.
    pub debug_container: DebugContainer,
    /// Workload authentication.
    pub identity: IdentityValues,
}

/// Container image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Image {
    /// Name without a tag; without a slash, it is one of [`Config::image_registry`].
    #[serde(deserialize_with = "text")]
    pub name: String,
    /// Tag; empty means the control plane's version.
    #[serde(deserialize_with = "text")]
    pub version: String,
    /// Pull policy; empty means [`Config::image_pull_policy`].
    #[serde(deserialize_with = "text")]
    pub pull_policy: String,
}

/// Sidecar container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Proxy {
    pub image: Image,
    pub ports: Ports,
    pub uid: i64,
    pub gid: i64,
    #[serde(deserialize_with = "text")]
    pub log_level: String,
    #[serde(deserialize_with = "text")]
    pub log_format: String,
    #[serde(rename = "logHTTPHeaders", deserialize_with = "text")]
    pub log_http_headers: String,
    pub r#await: bool,
    pub native_sidecar: bool,
    pub enable_external_profiles: bool,
    pub enable_shutdown_endpoint: bool,
    #[serde(deserialize_with = "text")]
    pub default_inbound_policy: String,
    #[serde(deserialize_with = "text")]
    pub opaque_ports: String,
    #[serde(deserialize_with = "text")]
    pub require_identity_on_inbound_ports: String,
    #[serde(rename = "requireTLSOnInboundPorts", deserialize_with = "text")]
    pub require_tls_on_inbound_ports: String,
    #[serde(deserialize_with = "text")]
    pub outbound_connect_timeout: String,
    #[serde(deserialize_with = "text")]
    pub inbound_connect_timeout: String,
    #[serde(deserialize_with = "text")]
    pub outbound_discovery_cache_unused_timeout: String,
    #[serde(deserialize_with = "text")]
    pub inbound_discovery_cache_unused_timeout: String,
    pub disable_outbound_protocol_detect_timeout: bool,
    pub disable_inbound_protocol_detect_timeout: bool,
    #[serde(deserialize_with = "text")]
    pub shutdown_grace_period: String,
    pub wait_before_exit_seconds: u32,
    #[serde(deserialize_with = "text")]
    pub access_log: String,
    pub resources: Resources,
    pub cores: u32,
    pub runtime: Runtime,
    pub metrics: ProxyMetrics,
    pub startup_probe: Probe,
    pub liveness_probe: Probe,
    pub readiness_probe: Probe,
    pub control: Control,
    /// Inbound parameters, a tree (`server.http2.keepAliveInterval`); each leaf becomes a variable.
    pub inbound: Value,
    /// Outbound parameters, likewise.
    pub outbound: Value,
    pub additional_env: Vec<AdditionalVar>,
    pub experimental_env: Vec<AdditionalVar>,
    /// Replaces the whole security context if it is a non-empty object.
    pub security_context: Value,
    pub tracing: Tracing,
    /// Identity allowed to tap; empty disables tap. Not an upstream value.
    #[serde(deserialize_with = "text")]
    pub tap_identity: String,
}

/// Additional environment variable, in Kubernetes' form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdditionalVar {
    /// Name.
    pub name: String,
    /// `value` or `valueFrom`, passed through.
    #[serde(flatten)]
    pub rest: serde_json::Map<String, Value>,
}

/// Listeners of the sidecar.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ports {
    pub admin: u16,
    pub control: u16,
    pub inbound: u16,
    pub outbound: u16,
}

/// Resource requests and limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    pub cpu: Amount,
    pub memory: Amount,
    #[serde(rename = "ephemeral-storage")]
    pub ephemeral_storage: Amount,
}

/// Request and limit of one resource, Kubernetes quantities; empty means unset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Amount {
    /// Request.
    #[serde(deserialize_with = "text")]
    pub request: String,
    /// Limit.
    #[serde(deserialize_with = "text")]
    pub limit: String,
}

/// Runtime of the sidecar.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Runtime {
    /// Worker threads.
    pub workers: Workers,
}

/// Bounds of worker threads; unset follows the CPU limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Workers {
    /// Lower bound.
    pub minimum: Option<u32>,
    /// Upper bound.
    pub maximum: Option<u32>,
    /// Upper bound as a fraction of the node's cores.
    #[serde(rename = "maximumCPURatio")]
    pub maximum_cpu_ratio: Option<f64>,
}

/// Metric labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProxyMetrics {
    /// Hostname labels on outbound metrics.
    pub hostname_labels: bool,
}

/// Probe settings; unset means Kubernetes' default.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Probe {
    pub initial_delay_seconds: Option<u32>,
    pub period_seconds: Option<u32>,
    pub timeout_seconds: Option<u32>,
    pub failure_threshold: Option<u32>,
}

/// Control plane client of the sidecar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Control {
    /// Stream timeouts.
    pub streams: Streams,
}

/// Timeouts of control plane streams.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Streams {
    #[serde(deserialize_with = "text")]
    pub initial_timeout: String,
    #[serde(deserialize_with = "text")]
    pub idle_timeout: String,
    #[serde(deserialize_with = "text")]
    pub lifetime: String,
}

/// Tracing of sidecars.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Tracing {
    pub enable: bool,
    #[serde(deserialize_with = "text")]
    pub trace_service_name: String,
    pub collector: Collector,
    /// Additional span attributes.
    pub labels: BTreeMap<String, String>,
}

/// Trace collector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Collector {
    /// Host and port.
    #[serde(deserialize_with = "text")]
    pub endpoint: String,
    /// Mesh identity of the collector.
    pub mesh_identity: MeshIdentity,
}

/// Service account in the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MeshIdentity {
    #[serde(deserialize_with = "text")]
    pub service_account_name: String,
    #[serde(deserialize_with = "text")]
    pub namespace: String,
}

/// Init container that installs the redirection rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProxyInit {
    pub image: Image,
    #[serde(deserialize_with = "text")]
    pub ignore_inbound_ports: String,
    #[serde(deserialize_with = "text")]
    pub ignore_outbound_ports: String,
    #[serde(deserialize_with = "text")]
    pub skip_subnets: String,
    #[serde(rename = "kubeAPIServerPorts", deserialize_with = "text")]
    pub kube_api_server_ports: String,
    pub run_as_root: bool,
    pub run_as_user: i64,
    pub close_wait_timeout_secs: u64,
    #[serde(deserialize_with = "text")]
    pub log_level: String,
    #[serde(deserialize_with = "text")]
    pub log_format: String,
}

/// Init container that checks the CNI plugin's redirection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NetworkValidator {
    pub image: Image,
    #[serde(deserialize_with = "text")]
    pub connect_addr: String,
    #[serde(deserialize_with = "text")]
    pub listen_addr: String,
    #[serde(deserialize_with = "text")]
    pub timeout: String,
    #[serde(deserialize_with = "text")]
    pub log_level: String,
    #[serde(deserialize_with = "text")]
    pub log_format: String,
}

/// Debug container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DebugContainer {
    /// Image; the mesh ships none.
    pub image: Image,
}

/// Workload authentication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct IdentityValues {
    /// Projects a token with the mesh's audience instead of using the API server's.
    pub service_account_token_projection: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            linkerd_namespace: defaults::CONTROL_PLANE_NAMESPACE.into(),
            linkerd_version: env!("CARGO_PKG_VERSION").into(),
            cluster_domain: defaults::CLUSTER_DOMAIN.into(),
            cluster_networks: defaults::CLUSTER_NETWORKS.into(),
            identity_trust_domain: String::new(),
            identity_trust_anchors_pem: String::new(),
            cni_enabled: false,
            no_native_sidecars: false,
            disable_ipv6: true,
            image_registry: "localhost".into(),
            image_pull_policy: "IfNotPresent".into(),
            proxy: Proxy::default(),
            proxy_init: ProxyInit::default(),
            network_validator: NetworkValidator::default(),
            debug_container: DebugContainer::default(),
            identity: IdentityValues::default(),
        }
    }
}

impl Default for Proxy {
    fn default() -> Self {
        let pings = || serde_json::json!({"server": {"http2": {"keepAliveInterval": "10s", "keepAliveTimeout": "3s"}}});
        Self {
            image: Image::named("mesh-proxy"),
            ports: Ports::default(),
            uid: defaults::PROXY_UID.into(),
            gid: -1,
            log_level: defaults::PROXY_LOG.into(),
            log_format: "plain".into(),
            log_http_headers: "off".into(),
            r#await: true,
            native_sidecar: true,
            enable_external_profiles: false,
            enable_shutdown_endpoint: false,
            default_inbound_policy: DefaultPolicy::default().as_str().into(),
            opaque_ports: ports::DEFAULT_OPAQUE_TEXT.into(),
            require_identity_on_inbound_ports: String::new(),
            require_tls_on_inbound_ports: String::new(),
            outbound_connect_timeout: "1000ms".into(),
            inbound_connect_timeout: "100ms".into(),
            outbound_discovery_cache_unused_timeout: "5s".into(),
            inbound_discovery_cache_unused_timeout: "90s".into(),
            disable_outbound_protocol_detect_timeout: false,
            disable_inbound_protocol_detect_timeout: false,
            shutdown_grace_period: String::new(),
            wait_before_exit_seconds: 0,
            access_log: String::new(),
            resources: Resources::default(),
            cores: 0,
            runtime: Runtime::default(),
            metrics: ProxyMetrics::default(),
            startup_probe: Probe {
                period_seconds: Some(1),
                failure_threshold: Some(120),
                ..Probe::default()
            },
            liveness_probe: Probe {
                initial_delay_seconds: Some(10),
                ..Probe::default()
            },
            readiness_probe: Probe {
                initial_delay_seconds: Some(2),
                ..Probe::default()
            },
            control: Control::default(),
            inbound: pings(),
            outbound: pings(),
            additional_env: vec![],
            experimental_env: vec![],
            security_context: Value::Null,
            tracing: Tracing::default(),
            tap_identity: String::new(),
        }
    }
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            admin: ports::ADMIN,
            control: ports::TAP,
            inbound: ports::INBOUND,
            outbound: ports::OUTBOUND,
        }
    }
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            initial_timeout: "3s".into(),
            idle_timeout: "5m".into(),
            lifetime: "1h".into(),
        }
    }
}

impl Default for ProxyInit {
    fn default() -> Self {
        Self {
            image: Image::named("mesh-init"),
            ignore_inbound_ports: ports::DEFAULT_SKIPPED.into(),
            ignore_outbound_ports: ports::DEFAULT_SKIPPED.into(),
            skip_subnets: String::new(),
            kube_api_server_ports: "443,6443".into(),
            run_as_root: false,
            run_as_user: 65534,
            close_wait_timeout_secs: 0,
            log_level: String::new(),
            log_format: String::new(),
        }
    }
}

impl Default for NetworkValidator {
    fn default() -> Self {
        Self {
            image: Image::named("mesh-validator"),
            connect_addr: String::new(),
            listen_addr: String::new(),
            timeout: "10s".into(),
            log_level: "debug".into(),
            log_format: "plain".into(),
        }
    }
}

impl Default for IdentityValues {
    fn default() -> Self {
        Self {
            service_account_token_projection: true,
        }
    }
}

impl Image {
    fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }
}

impl Config {
    /// Merges the chart's values into the defaults as Helm does: map by map, and null keeps the default.
    pub fn from_values(values: &Value) -> Result<Self, Error> {
        let invalid = |error: serde_json::Error| Error::Values(error.to_string());
        let mut merged = serde_json::to_value(Self::default()).map_err(invalid)?;
        merge(&mut merged, values);
        serde_json::from_value(merged).map_err(invalid)
    }

    /// Trust domain.
    pub fn trust_domain(&self) -> &str {
        if self.identity_trust_domain.is_empty() {
            &self.cluster_domain
        } else {
            &self.identity_trust_domain
        }
    }

    /// Full name of an image, without its tag.
    pub fn image_name(&self, image: &Image) -> String {
        let (registry, name) = (self.image_registry.trim_end_matches('/'), &image.name);
        if registry.is_empty() || name.is_empty() || name.contains('/') {
            name.clone()
        } else {
            format!("{registry}/{name}")
        }
    }

    /// Names that the mesh's identities end in.
    pub fn mesh_names(&self) -> MeshNames<'_> {
        MeshNames {
            control_plane_namespace: &self.linkerd_namespace,
            trust_domain: self.trust_domain(),
        }
    }

    /// Returns true if sidecars send spans.
    pub(crate) fn sends_spans(&self) -> bool {
        let tracing = &self.proxy.tracing;
        tracing.enable && !tracing.collector.endpoint.is_empty()
    }

    /// Rejects values that no pod could start with: once, instead of pod by pod.
    pub fn validate(&self) -> Result<(), Error> {
        let (proxy, init) = (&self.proxy, &self.proxy_init);
        for (field, ports) in [
            ("proxy.opaquePorts", &proxy.opaque_ports),
            (
                "proxy.requireIdentityOnInboundPorts",
                &proxy.require_identity_on_inbound_ports,
            ),
            ("proxy.requireTLSOnInboundPorts", &proxy.require_tls_on_inbound_ports),
            ("proxyInit.ignoreInboundPorts", &init.ignore_inbound_ports),
            ("proxyInit.ignoreOutboundPorts", &init.ignore_outbound_ports),
            ("proxyInit.kubeAPIServerPorts", &init.kube_api_server_ports),
        ] {
            parse::ports(field, ports)?;
        }
        parse::policy("proxy.defaultInboundPolicy", &proxy.default_inbound_policy)?;
        parse::networks("proxyInit.skipSubnets", &init.skip_subnets)?;
        let streams = &proxy.control.streams;
        for (field, duration) in [
            ("proxy.outboundConnectTimeout", &proxy.outbound_connect_timeout),
            ("proxy.inboundConnectTimeout", &proxy.inbound_connect_timeout),
            (
                "proxy.outboundDiscoveryCacheUnusedTimeout",
                &proxy.outbound_discovery_cache_unused_timeout,
            ),
            (
                "proxy.inboundDiscoveryCacheUnusedTimeout",
                &proxy.inbound_discovery_cache_unused_timeout,
            ),
            ("proxy.control.streams.initialTimeout", &streams.initial_timeout),
            ("proxy.control.streams.idleTimeout", &streams.idle_timeout),
            ("proxy.control.streams.lifetime", &streams.lifetime),
        ] {
            parse::duration(field, duration)?;
        }
        if !proxy.shutdown_grace_period.is_empty() {
            parse::duration("proxy.shutdownGracePeriod", &proxy.shutdown_grace_period)?;
        }
        if self.identity_trust_anchors_pem.trim().is_empty() {
            return Err(Error::value("identityTrustAnchorsPEM", "no trust anchors"));
        }
        for (field, tree) in [("proxy.inbound", &proxy.inbound), ("proxy.outbound", &proxy.outbound)] {
            if !(tree.is_object() || tree.is_null()) {
                return Err(Error::value(field, "must be a mapping"));
            }
        }
        Ok(())
    }
}

fn merge(into: &mut Value, values: &Value) {
    match (into, values) {
        (_, Value::Null) => {}
        (Value::Object(into), Value::Object(values)) => {
            for (key, value) in values {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, values) => *into = values.clone(),
    }
}

/// Reads a string, also where the author wrote a number or a boolean.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(boolean) => Ok(boolean.to_string()),
        other => Err(D::Error::custom(format!("expected a string, found {other}"))),
    }
}

#[cfg(test)]
mod tests;
