//! The annotations that configure injection: names, lookup (the workload takes precedence over its namespace) and
//! errors for invalid values.

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

use crate::Error;

macro_rules! keys {
    ($(#[$list_doc:meta])* $list:ident, $prefix:literal: $($(#[doc = $doc:literal])+ $name:ident = $key:literal;)*) => {
        $($(#[doc = $doc])+ pub const $name: &str = concat!($prefix, $key);)*

        $(#[$list_doc])*
        const $list: &[(&str, &str)] = &[$(($name, concat!($($doc),+).trim_ascii())),*];
    };
}

keys! {
    /// Annotations that injection copies from the namespace to the pod, with their descriptions.
    INHERITED, "config.linkerd.io/":
    /// Image of the sidecar, without a tag.
    PROXY_IMAGE = "proxy-image";
    /// Image tag of the sidecar.
    PROXY_VERSION = "proxy-version";
    /// Image pull policy.
    IMAGE_PULL_POLICY = "image-pull-policy";
    /// Image of the debug container, without a tag.
    DEBUG_IMAGE = "debug-image";
    /// Image tag of the debug container.
    DEBUG_IMAGE_VERSION = "debug-image-version";
    /// Image pull policy of the debug container.
    DEBUG_IMAGE_PULL_POLICY = "debug-image-pull-policy";
    /// `true` adds a debug container.
    ENABLE_DEBUG_SIDECAR = "enable-debug-sidecar";
    /// Listener for redirected inbound traffic.
    INBOUND_PORT = "inbound-port";
    /// Listener for redirected outbound traffic.
    OUTBOUND_PORT = "outbound-port";
    /// Listener for metrics and probes.
    ADMIN_PORT = "admin-port";
    /// Listener for tap.
    CONTROL_PORT = "control-port";
    /// Inbound skip ports.
    SKIP_INBOUND_PORTS = "skip-inbound-ports";
    /// Outbound skip ports.
    SKIP_OUTBOUND_PORTS = "skip-outbound-ports";
    /// Client networks that bypass the sidecar.
    SKIP_SUBNETS = "skip-subnets";
    /// Opaque ports.
    OPAQUE_PORTS = "opaque-ports";
    /// Ports whose policy the sidecar watches from startup.
    POD_INBOUND_PORTS = "pod-inbound-ports";
    /// CPU request of the sidecar.
    PROXY_CPU_REQUEST = "proxy-cpu-request";
    /// CPU limit of the sidecar.
    PROXY_CPU_LIMIT = "proxy-cpu-limit";
    /// Upper bound of workers, as a fraction of the node's cores.
    PROXY_CPU_RATIO_LIMIT = "proxy-cpu-ratio-limit";
    /// Memory request of the sidecar.
    PROXY_MEMORY_REQUEST = "proxy-memory-request";
    /// Memory limit of the sidecar.
    PROXY_MEMORY_LIMIT = "proxy-memory-limit";
    /// Ephemeral storage request of the sidecar.
    PROXY_EPHEMERAL_STORAGE_REQUEST = "proxy-ephemeral-storage-request";
    /// Ephemeral storage limit of the sidecar.
    PROXY_EPHEMERAL_STORAGE_LIMIT = "proxy-ephemeral-storage-limit";
    /// User ID of the sidecar.
    PROXY_UID = "proxy-uid";
    /// Group ID of the sidecar.
    PROXY_GID = "proxy-gid";
    /// Log filter of the sidecar.
    PROXY_LOG_LEVEL = "proxy-log-level";
    /// Log format of the sidecar: `plain` or `json`.
    PROXY_LOG_FORMAT = "proxy-log-format";
    /// `insecure` allows request headers in the log.
    PROXY_LOG_HTTP_HEADERS = "proxy-log-http-headers";
    /// Access log format: `apache` or `json`.
    ACCESS_LOG = "access-log";
    /// Looks up ServiceProfiles for names outside the cluster as well.
    ENABLE_EXTERNAL_PROFILES = "enable-external-profiles";
    /// Ports that require a client identity.
    REQUIRE_IDENTITY_PORTS = "proxy-require-identity-inbound-ports";
    /// Adds hostname labels to outbound metrics.
    METRICS_HOSTNAME_LABELS = "proxy-metrics-hostname-labels";
    /// Connect timeout to endpoints.
    OUTBOUND_CONNECT_TIMEOUT = "proxy-outbound-connect-timeout";
    /// Connect timeout to the application.
    INBOUND_CONNECT_TIMEOUT = "proxy-inbound-connect-timeout";
    /// Idle time after which an outbound lookup is dropped.
    OUTBOUND_DISCOVERY_TIMEOUT = "proxy-outbound-discovery-cache-unused-timeout";
    /// Idle time after which an inbound lookup is dropped.
    INBOUND_DISCOVERY_TIMEOUT = "proxy-inbound-discovery-cache-unused-timeout";
    /// `true` disables the timeout of outbound protocol detection.
    DISABLE_OUTBOUND_DETECT_TIMEOUT = "proxy-disable-outbound-protocol-detect-timeout";
    /// `true` disables the timeout of inbound protocol detection.
    DISABLE_INBOUND_DETECT_TIMEOUT = "proxy-disable-inbound-protocol-detect-timeout";
    /// Default policy: applies to ports without a Server.
    DEFAULT_INBOUND_POLICY = "default-inbound-policy";
    /// `enabled` serves ports by the default policy until the control plane has sent theirs; otherwise they are
    /// refused. Ours, not Linkerd's.
    INBOUND_FAIL_OPEN = "proxy-inbound-fail-open";
    /// `disabled` forwards paths that the application may read differently from the policy; otherwise they are
    /// refused. Ours, not Linkerd's.
    INBOUND_PATH_CHECK = "proxy-inbound-path-check";
    /// `enabled` delays the application until the sidecar is ready.
    PROXY_AWAIT = "proxy-await";
    /// `true` selects a native sidecar (an init container that keeps running).
    NATIVE_SIDECAR = "proxy-enable-native-sidecar";
    /// Longest drain.
    SHUTDOWN_GRACE_PERIOD = "shutdown-grace-period";
    /// `enabled` allows POST /shutdown.
    PROXY_ADMIN_SHUTDOWN = "proxy-admin-shutdown";
    /// Time that the kernel tracks half-closed connections.
    CLOSE_WAIT_TIMEOUT = "close-wait-timeout";
    /// Additional environment variables, a JSON list.
    ADDITIONAL_ENV = "proxy-additional-env";
}

keys! {
    /// Further annotations that injection recognizes.
    OTHERS, "":
    /// `true` makes the pod a gateway. Read from the workload only: it is the role of one pod.
    ENABLE_GATEWAY = "config.linkerd.io/enable-gateway";
    /// Older name of `config.linkerd.io/proxy-enable-native-sidecar`.
    NATIVE_SIDECAR_BETA = "config.beta.linkerd.io/proxy-enable-native-sidecar";
    /// Oldest name of `config.linkerd.io/proxy-enable-native-sidecar`.
    NATIVE_SIDECAR_ALPHA = "config.alpha.linkerd.io/proxy-enable-native-sidecar";
    /// Seconds that the sidecar keeps running after the stop signal.
    WAIT_BEFORE_EXIT = "config.alpha.linkerd.io/proxy-wait-before-exit-seconds";
}

/// Injector and version that injected the pod.
pub const CREATED_BY: &str = "linkerd.io/created-by";
/// Version of the injected sidecar.
pub const PROXY_VERSION_MARK: &str = "linkerd.io/proxy-version";
/// SHA-256 of the trust anchors.
pub const TRUST_ROOT_SHA256: &str = "linkerd.io/trust-root-sha256";
/// Marks a pod that can be tapped.
pub const TAP_ENABLED: &str = "viz.linkerd.io/tap-enabled";

/// All settings of injection with their descriptions.
pub fn settings() -> impl Iterator<Item = (&'static str, &'static str)> {
    INHERITED.iter().chain(OTHERS).copied()
}

/// Returns true for keys with a prefix of injection settings.
pub fn is_setting(key: &str) -> bool {
    let prefix = key.split_once('/').map(|(prefix, _)| prefix);
    matches!(
        prefix,
        Some("config.linkerd.io" | "config.alpha.linkerd.io" | "config.beta.linkerd.io")
    )
}

/// Returns true for settings that injection recognizes.
pub fn is_known(key: &str) -> bool {
    settings().any(|(known, _)| known == key)
}

/// Location of an annotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the pod or its template.
    Workload,
    /// On the namespace of this name.
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

/// Namespace, as far as injection needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Name; empty if unknown (a manifest without a namespace).
    pub name: String,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

/// Annotations of a workload and of its namespace.
#[derive(Copy, Clone, Debug)]
pub struct Annotations<'a> {
    workload: Option<&'a serde_json::Map<String, Value>>,
    namespace: &'a Namespace,
}

impl<'a> Annotations<'a> {
    /// Takes the metadata of a pod or pod template.
    pub fn new(metadata: Option<&'a Value>, namespace: &'a Namespace) -> Self {
        let workload = metadata.and_then(|metadata| metadata.get("annotations")?.as_object());
        Self { workload, namespace }
    }

    /// Returns the value on the workload itself.
    pub fn own(self, key: &str) -> Option<&'a str> {
        self.workload?.get(key)?.as_str()
    }

    /// Returns the value on the namespace.
    pub fn on_namespace(self, key: &str) -> Option<&'a str> {
        self.namespace.annotations.get(key).map(String::as_str)
    }

    /// Drops the workload's annotations.
    pub(crate) fn without_own(self) -> Self {
        Self { workload: None, ..self }
    }

    /// Returns the effective value and its location.
    pub(crate) fn find(self, key: &str) -> Option<(&'a str, Place)> {
        let namespace = || Place::Namespace(self.namespace.name.clone());
        let own = self.own(key).map(|value| (value, Place::Workload));
        own.or_else(|| self.on_namespace(key).map(|value| (value, namespace())))
    }

    /// Returns the effective value.
    pub fn get(self, key: &str) -> Option<&'a str> {
        self.own(key).or_else(|| self.on_namespace(key))
    }

    /// Parses the effective value; `expected` completes the error message.
    pub(crate) fn read<T>(
        self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some((value, place)) = self.find(key) else {
            return Ok(None);
        };
        let invalid = || Error::Annotation {
            key: key.to_owned(),
            place,
            value: value.to_owned(),
            expected: expected.to_owned(),
        };
        parse(value.trim()).map(Some).ok_or_else(invalid)
    }

    /// Settings that the pod inherits from its namespace, for components that read only the pod.
    pub fn inherited(self) -> impl Iterator<Item = (&'static str, &'a str)> {
        let more = [NATIVE_SIDECAR_BETA, NATIVE_SIDECAR_ALPHA, WAIT_BEFORE_EXIT];
        let keys = INHERITED
            .iter()
            .map(|(key, _)| *key)
            .chain(more)
            .filter(move |key| self.own(key).is_none());
        keys.filter_map(move |key| Some((key, self.on_namespace(key)?)))
    }
}
