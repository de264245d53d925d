//! The annotations that change how a pod is injected: their names, where they are looked up (the workload's win over the
//! namespace's), and how a wrong value is told.

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

use crate::Error;

macro_rules! keys {
    ($prefix:literal: $($(#[$doc:meta])* $name:ident = $key:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = concat!($prefix, $key);)*

        /// What a pod takes over from its namespace.
        const INHERITED: &[&str] = &[$($name),*];
    };
}

keys! { "config.linkerd.io/":
    /// Name of the sidecar's image.
    PROXY_IMAGE = "proxy-image";
    /// Tag of it.
    PROXY_VERSION = "proxy-version";
    /// When images are pulled.
    IMAGE_PULL_POLICY = "image-pull-policy";
    /// Name of the debug container's image.
    DEBUG_IMAGE = "debug-image";
    /// Tag of it.
    DEBUG_IMAGE_VERSION = "debug-image-version";
    /// When it is pulled.
    DEBUG_IMAGE_PULL_POLICY = "debug-image-pull-policy";
    /// `true` adds a debug container.
    ENABLE_DEBUG_SIDECAR = "enable-debug-sidecar";
    /// Port for redirected traffic to the application.
    INBOUND_PORT = "inbound-port";
    /// Port for redirected traffic of the application.
    OUTBOUND_PORT = "outbound-port";
    /// Port of metrics and probes.
    ADMIN_PORT = "admin-port";
    /// Port of tap.
    CONTROL_PORT = "control-port";
    /// Ports that the sidecar never sees, inbound.
    SKIP_INBOUND_PORTS = "skip-inbound-ports";
    /// Ports that the sidecar never sees, outbound.
    SKIP_OUTBOUND_PORTS = "skip-outbound-ports";
    /// Clients whose connections the sidecar never sees.
    SKIP_SUBNETS = "skip-subnets";
    /// Ports that are bytes.
    OPAQUE_PORTS = "opaque-ports";
    /// Ports whose policy is watched from the start.
    POD_INBOUND_PORTS = "pod-inbound-ports";
    /// Resources of the sidecar.
    PROXY_CPU_REQUEST = "proxy-cpu-request";
    /// Resources of the sidecar.
    PROXY_CPU_LIMIT = "proxy-cpu-limit";
    /// Workers, as a share of the machine's cores.
    PROXY_CPU_RATIO_LIMIT = "proxy-cpu-ratio-limit";
    /// Resources of the sidecar.
    PROXY_MEMORY_REQUEST = "proxy-memory-request";
    /// Resources of the sidecar.
    PROXY_MEMORY_LIMIT = "proxy-memory-limit";
    /// Resources of the sidecar.
    PROXY_EPHEMERAL_STORAGE_REQUEST = "proxy-ephemeral-storage-request";
    /// Resources of the sidecar.
    PROXY_EPHEMERAL_STORAGE_LIMIT = "proxy-ephemeral-storage-limit";
    /// User of the sidecar.
    PROXY_UID = "proxy-uid";
    /// Group of the sidecar.
    PROXY_GID = "proxy-gid";
    /// Log filter of the sidecar.
    PROXY_LOG_LEVEL = "proxy-log-level";
    /// `plain` or `json`.
    PROXY_LOG_FORMAT = "proxy-log-format";
    /// `insecure` lets headers be logged.
    PROXY_LOG_HTTP_HEADERS = "proxy-log-http-headers";
    /// `apache` or `json`.
    ACCESS_LOG = "access-log";
    /// Whether names outside the cluster may have profiles.
    ENABLE_EXTERNAL_PROFILES = "enable-external-profiles";
    /// Ports whose clients must have an identity.
    REQUIRE_IDENTITY_PORTS = "proxy-require-identity-inbound-ports";
    /// Whether outbound metrics name hosts.
    METRICS_HOSTNAME_LABELS = "proxy-metrics-hostname-labels";
    /// Time to connect to an endpoint.
    OUTBOUND_CONNECT_TIMEOUT = "proxy-outbound-connect-timeout";
    /// Time to connect to the application.
    INBOUND_CONNECT_TIMEOUT = "proxy-inbound-connect-timeout";
    /// Time that an unused lookup is kept.
    OUTBOUND_DISCOVERY_TIMEOUT = "proxy-outbound-discovery-cache-unused-timeout";
    /// Time that an unused lookup is kept.
    INBOUND_DISCOVERY_TIMEOUT = "proxy-inbound-discovery-cache-unused-timeout";
    /// `true`: wait for the first bytes as long as it takes.
    DISABLE_OUTBOUND_DETECT_TIMEOUT = "proxy-disable-outbound-protocol-detect-timeout";
    /// `true`: wait for the first bytes as long as it takes.
    DISABLE_INBOUND_DETECT_TIMEOUT = "proxy-disable-inbound-protocol-detect-timeout";
    /// Policy of ports without a Server.
    DEFAULT_INBOUND_POLICY = "default-inbound-policy";
    /// Whether the application waits for its sidecar.
    PROXY_AWAIT = "proxy-await";
    /// Whether the sidecar is an init container that stays.
    NATIVE_SIDECAR = "proxy-enable-native-sidecar";
    /// Time that a drain may take.
    SHUTDOWN_GRACE_PERIOD = "shutdown-grace-period";
    /// Whether POST /shutdown is allowed.
    PROXY_ADMIN_SHUTDOWN = "proxy-admin-shutdown";
    /// Time that half-closed connections are tracked.
    CLOSE_WAIT_TIMEOUT = "close-wait-timeout";
    /// More variables, a JSON list.
    ADDITIONAL_ENV = "proxy-additional-env";
}

/// Makes the pod a gateway; a pod's own role, so no namespace says it.
pub const ENABLE_GATEWAY: &str = "config.linkerd.io/enable-gateway";
/// Older name of [`NATIVE_SIDECAR`].
pub const NATIVE_SIDECAR_BETA: &str = "config.beta.linkerd.io/proxy-enable-native-sidecar";
/// Oldest name of [`NATIVE_SIDECAR`].
pub const NATIVE_SIDECAR_ALPHA: &str = "config.alpha.linkerd.io/proxy-enable-native-sidecar";
/// Time that the sidecar outlives the signal to stop.
pub const WAIT_BEFORE_EXIT: &str = "config.alpha.linkerd.io/proxy-wait-before-exit-seconds";
/// What injected it.
pub const CREATED_BY: &str = "linkerd.io/created-by";
/// Version of the sidecar.
pub const PROXY_VERSION_MARK: &str = "linkerd.io/proxy-version";
/// SHA-256 of the trust anchors.
pub const TRUST_ROOT_SHA256: &str = "linkerd.io/trust-root-sha256";
/// The pod can be tapped.
pub const TAP_ENABLED: &str = "viz.linkerd.io/tap-enabled";

/// What a namespace or a pod may say besides.
const OTHERS: [&str; 4] = [
    ENABLE_GATEWAY,
    NATIVE_SIDECAR_BETA,
    NATIVE_SIDECAR_ALPHA,
    WAIT_BEFORE_EXIT,
];

/// Whether an annotation means to change how a pod is injected.
pub(crate) fn is_of_config(key: &str) -> bool {
    let prefix = key.split_once('/').map(|(prefix, _)| prefix);
    matches!(
        prefix,
        Some("config.linkerd.io" | "config.alpha.linkerd.io" | "config.beta.linkerd.io")
    )
}

/// Whether it does.
pub(crate) fn is_known(key: &str) -> bool {
    INHERITED.contains(&key) || OTHERS.contains(&key)
}

/// Where an annotation stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the pod or its template.
    Workload,
    /// On this namespace.
    Namespace(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload => f.write_str("on the workload"),
            Self::Namespace(name) => write!(f, "on the namespace {name}"),
        }
    }
}

/// A namespace, as far as injection goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its name; empty where nobody knows it (a manifest without one).
    pub name: String,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// The annotations of a workload and of its namespace.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Annotations<'a> {
    workload: Option<&'a serde_json::Map<String, Value>>,
    namespace: &'a Namespace,
}

impl<'a> Annotations<'a> {
    pub(crate) fn new(metadata: Option<&'a Value>, namespace: &'a Namespace) -> Self {
        let workload = metadata.and_then(|metadata| metadata.get("annotations")?.as_object());
        Self { workload, namespace }
    }

    /// What the workload says itself.
    pub(crate) fn own(self, key: &str) -> Option<&'a str> {
        self.workload?.get(key)?.as_str()
    }

    /// What its namespace says.
    pub(crate) fn of_namespace(self, key: &str) -> Option<&'a str> {
        self.namespace.annotations.get(key).map(String::as_str)
    }

    /// The namespace's alone.
    pub(crate) fn without_own(self) -> Self {
        Self { workload: None, ..self }
    }

    /// What holds, and where it stands.
    pub(crate) fn find(self, key: &str) -> Option<(&'a str, Place)> {
        let namespace = || Place::Namespace(self.namespace.name.clone());
        let own = self.own(key).map(|value| (value, Place::Workload));
        own.or_else(|| self.of_namespace(key).map(|value| (value, namespace())))
    }

    /// What holds.
    pub(crate) fn get(self, key: &str) -> Option<&'a str> {
        self.own(key).or_else(|| self.of_namespace(key))
    }

    /// What holds, read; `expected` ends the sentence that refuses it.
    pub(crate) fn read<T>(
        self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some((value, place)) = self.find(key) else {
            return Ok(None);
        };
        let refused = || Error::Annotation {
            key: key.to_owned(),
            place,
            value: value.to_owned(),
            expected: expected.to_owned(),
        };
        parse(value.trim()).map(Some).ok_or_else(refused)
    }

    /// What the pod takes over from its namespace, because others read it from the pod.
    pub(crate) fn inherited(self) -> impl Iterator<Item = (&'static str, &'a str)> {
        let more = [NATIVE_SIDECAR_BETA, NATIVE_SIDECAR_ALPHA, WAIT_BEFORE_EXIT];
        let keys = INHERITED
            .iter()
            .copied()
            .chain(more)
            .filter(move |key| self.own(key).is_none());
        keys.filter_map(move |key| Some((key, self.of_namespace(key)?)))
    }
}
