//! What the control plane says of all pods: the values of the chart that matter here, by the names Linkerd gives them,
//! with Linkerd's defaults. Annotations change them pod by pod, see [`crate::settings`].

use std::collections::BTreeMap;

use proxy_model::{ports, ports::PortSet};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Value;

use crate::Error;

/// The values of the chart. Names that are not here belong to others and are passed over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
    /// Namespace of the control plane.
    pub linkerd_namespace: String,
    /// Version that pods are marked with.
    pub linkerd_version: String,
    /// Domain of the cluster's DNS names.
    pub cluster_domain: String,
    /// Networks of pods, Services and nodes.
    pub cluster_networks: String,
    /// Suffix of all identities; empty is the cluster's domain.
    pub identity_trust_domain: String,
    /// Trust anchors.
    #[serde(rename = "identityTrustAnchorsPEM")]
    pub identity_trust_anchors_pem: String,
    /// Whether a CNI plugin redirects, instead of an init container.
    pub cni_enabled: bool,
    /// Ours, and no value of the chart: whether the cluster knows native sidecars (Kubernetes 1.29). Where it does not, nobody
    /// gets one.
    #[serde(skip)]
    pub no_native_sidecars: bool,
    /// Whether IPv6 is left alone.
    #[serde(rename = "disableIPv6")]
    pub disable_ipv6: bool,
    /// When images are pulled, unless an image says otherwise.
    pub image_pull_policy: String,
    /// The sidecar.
    pub proxy: Proxy,
    /// The init container that redirects.
    pub proxy_init: ProxyInit,
    /// The init container that looks whether a CNI plugin redirects.
    pub network_validator: NetworkValidator,
    /// The container for a look at a pod's traffic.
    pub debug_container: DebugContainer,
    /// How workloads prove who they are.
    pub identity: IdentityValues,
}

/// An image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Image {
    /// Name without the tag.
    #[serde(deserialize_with = "text")]
    pub name: String,
    /// Tag; empty is the version of the control plane.
    #[serde(deserialize_with = "text")]
    pub version: String,
    /// When it is pulled; empty is as for all images.
    #[serde(deserialize_with = "text")]
    pub pull_policy: String,
}

/// The sidecar.
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
    /// Parameters of the inbound side, as a tree (`server.http2.keepAliveInterval`); each becomes a variable.
    pub inbound: Value,
    /// Parameters of the outbound side, likewise.
    pub outbound: Value,
    pub additional_env: Vec<EnvVar>,
    pub experimental_env: Vec<EnvVar>,
    /// Replaces the whole security context when it is an object with something in it.
    pub security_context: Value,
    pub tracing: Tracing,
    /// Ours: identity of who may tap; tap is off while it is empty.
    #[serde(deserialize_with = "text")]
    pub tap_identity: String,
}

/// A variable; all but its name is passed on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// `value`, `valueFrom`.
    #[serde(flatten)]
    pub rest: serde_json::Map<String, Value>,
}

/// Where the sidecar listens.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ports {
    pub admin: u16,
    pub control: u16,
    pub inbound: u16,
    pub outbound: u16,
}

/// What the sidecar asks for and may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    pub cpu: Amount,
    pub memory: Amount,
    #[serde(rename = "ephemeral-storage")]
    pub ephemeral_storage: Amount,
}

/// Amount of one resource; empty is not said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Amount {
    /// At least.
    #[serde(deserialize_with = "text")]
    pub request: String,
    /// At most.
    #[serde(deserialize_with = "text")]
    pub limit: String,
}

/// Threads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Runtime {
    /// Workers.
    pub workers: Workers,
}

/// How many workers; nothing is "as the limit of CPU says".
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Workers {
    /// At least.
    pub minimum: Option<u32>,
    /// At most.
    pub maximum: Option<u32>,
    /// Share of the machine's cores.
    #[serde(rename = "maximumCPURatio")]
    pub maximum_cpu_ratio: Option<f64>,
}

/// Labels of metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProxyMetrics {
    /// Whether outbound metrics name hosts.
    pub hostname_labels: bool,
}

/// A probe of the kubelet; nothing is Kubernetes' default.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Probe {
    pub initial_delay_seconds: Option<u32>,
    pub period_seconds: Option<u32>,
    pub timeout_seconds: Option<u32>,
    pub failure_threshold: Option<u32>,
}

/// How the sidecar talks to the control plane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Control {
    /// Its streams.
    pub streams: Streams,
}

/// Times of streams.
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

/// Spans of sidecars.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Tracing {
    pub enable: bool,
    #[serde(deserialize_with = "text")]
    pub trace_service_name: String,
    pub collector: Collector,
    /// More attributes of every span.
    pub labels: BTreeMap<String, String>,
}

/// Who takes spans.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Collector {
    /// Host and port.
    #[serde(deserialize_with = "text")]
    pub endpoint: String,
    /// Who it is in the mesh.
    pub mesh_identity: MeshIdentity,
}

/// A service account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MeshIdentity {
    #[serde(deserialize_with = "text")]
    pub service_account_name: String,
    #[serde(deserialize_with = "text")]
    pub namespace: String,
}

/// The init container that redirects.
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

/// The init container that looks whether a CNI plugin redirects.
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

/// The container for a look at a pod's traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DebugContainer {
    /// Its image; we ship none.
    pub image: Image,
}

/// How workloads prove who they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct IdentityValues {
    /// By a token made for us, not the one for the API server.
    pub service_account_token_projection: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            linkerd_namespace: "linkerd".into(),
            linkerd_version: env!("CARGO_PKG_VERSION").into(),
            cluster_domain: "cluster.local".into(),
            cluster_networks: "10.0.0.0/8,100.64.0.0/10,172.16.0.0/12,192.168.0.0/16,fd00::/8".into(),
            identity_trust_domain: String::new(),
            identity_trust_anchors_pem: String::new(),
            cni_enabled: false,
            no_native_sidecars: false,
            disable_ipv6: true,
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
            image: Image::named("localhost/mesh-proxy"),
            ports: Ports::default(),
            uid: 2102,
            gid: -1,
            log_level: "warn,linkerd=info,hickory=error".into(),
            log_format: "plain".into(),
            log_http_headers: "off".into(),
            r#await: true,
            native_sidecar: true,
            enable_external_profiles: false,
            enable_shutdown_endpoint: false,
            default_inbound_policy: "all-unauthenticated".into(),
            opaque_ports: ports::DEFAULT_OPAQUE.map(|port| port.to_string()).join(","),
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
            image: Image::named("localhost/mesh-init"),
            ignore_inbound_ports: "4567,4568".into(),
            ignore_outbound_ports: "4567,4568".into(),
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
            image: Image::named("localhost/mesh-validator"),
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
    /// Reads the chart's values over the defaults, as Helm does: map by map, and null is "as by default". The error says what is
    /// wrong.
    pub fn from_values(values: &Value) -> Result<Self, Error> {
        let wrong = |error: serde_json::Error| Error::Values(error.to_string());
        let mut merged = serde_json::to_value(Self::default()).map_err(wrong)?;
        merge(&mut merged, values);
        serde_json::from_value(merged).map_err(wrong)
    }

    /// Suffix of all identities.
    pub fn trust_domain(&self) -> &str {
        if self.identity_trust_domain.is_empty() {
            &self.cluster_domain
        } else {
            &self.identity_trust_domain
        }
    }

    /// Refuses what no pod could start with, once, instead of pod by pod.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let wrong = |field: &'static str, reason: String| Err(Error::Value { field, reason });
        let lists = [
            ("proxy.opaquePorts", &self.proxy.opaque_ports),
            ("proxyInit.ignoreInboundPorts", &self.proxy_init.ignore_inbound_ports),
            ("proxyInit.ignoreOutboundPorts", &self.proxy_init.ignore_outbound_ports),
            ("proxyInit.kubeAPIServerPorts", &self.proxy_init.kube_api_server_ports),
        ];
        for (field, ports) in lists {
            if let Err(error) = ports.parse::<PortSet>() {
                return wrong(field, error.to_string());
            }
        }
        if self.identity_trust_anchors_pem.trim().is_empty() {
            return wrong("identityTrustAnchorsPEM", "no trust anchor is given".into());
        }
        for side in [
            ("proxy.inbound", &self.proxy.inbound),
            ("proxy.outbound", &self.proxy.outbound),
        ] {
            if !(side.1.is_object() || side.1.is_null()) {
                return wrong(side.0, "it is no map".into());
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

/// A text, also where people write it as a number or a truth.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(truth) => Ok(truth.to_string()),
        other => Err(D::Error::custom(format!("{other} is no text"))),
    }
}

#[cfg(test)]
mod tests;
