//! What is seen of an object before it is injected, and why it is not.

use std::fmt;

use destination_k8s::keys;

use crate::{annotations::Annotations, pod::Pod};

/// Why an object is not injected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It shares the node's network.
    HostNetwork,
    /// It has a sidecar already, ours or another mesh's.
    SidecarExists,
    /// Its kind holds no pod.
    Unsupported,
    /// Nothing says that it should be.
    NotAnnotated,
    /// It, or its namespace, says that it should not be.
    Disabled,
    /// Its annotation has no known value.
    InvalidAtWorkload(String),
    /// Its namespace's annotation has no known value.
    InvalidAtNamespace(String),
    /// It mounts no token, and tokens of our own are not in use.
    NoToken,
}

impl Reason {
    /// The word for metrics.
    pub fn token(&self) -> &'static str {
        match self {
            Self::HostNetwork => "host_network_enabled",
            Self::SidecarExists => "sidecar_already_exists",
            Self::Unsupported => "unsupported_resource",
            Self::NotAnnotated => "injection_enable_annotation_absent",
            Self::Disabled => "injection_disable_annotation_present",
            Self::InvalidAtWorkload(_) => "invalid_inject_annotation_at_workload",
            Self::InvalidAtNamespace(_) => "invalid_inject_annotation_at_ns",
            Self::NoToken => "disabled_automount_service_account_token_account",
        }
    }

    /// Whether it is worth an Event: not for what nobody asked to inject.
    pub fn is_notable(&self) -> bool {
        !matches!(self, Self::NotAnnotated | Self::Disabled | Self::Unsupported)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostNetwork => f.write_str("hostNetwork is enabled"),
            Self::SidecarExists => f.write_str("pod has a sidecar injected already"),
            Self::Unsupported => f.write_str("this resource kind is unsupported"),
            Self::NotAnnotated => write!(
                f,
                "neither the namespace nor the pod have the annotation \"{}: {}\"",
                keys::INJECT,
                keys::INJECT_ENABLED
            ),
            Self::Disabled => write!(f, "pod has the annotation \"{}: disabled\"", keys::INJECT),
            Self::InvalidAtWorkload(value) => invalid(f, value, "pod"),
            Self::InvalidAtNamespace(value) => invalid(f, value, "namespace"),
            Self::NoToken => f.write_str("automountServiceAccountToken set to \"false\""),
        }
    }
}

fn invalid(f: &mut fmt::Formatter<'_>, value: &str, place: &str) -> fmt::Result {
    write!(
        f,
        "the {place}'s annotation {}: {value:?} is none of {}",
        keys::INJECT,
        keys::INJECT_VALUES.join(", ")
    )
}

/// What is seen of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Its kind; empty if it says none.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Whether it uses UDP, which goes past the sidecar.
    pub udp: bool,
    /// Where the annotation that decided stands: `workload`, `namespace`, or nothing.
    pub annotation_at: &'static str,
    /// Why it is not injected; empty if it may be.
    pub reasons: Vec<Reason>,
}

impl Report {
    /// Whether it may be injected.
    pub fn is_injectable(&self) -> bool {
        self.reasons.is_empty()
    }

    /// `deployment/web`
    pub fn resource(&self) -> String {
        format!("{}/{}", self.kind.to_lowercase(), self.name)
    }

    /// The reasons as a sentence.
    pub fn sentence(&self) -> String {
        self.reasons
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// The reasons as words for metrics.
    pub fn tokens(&self) -> String {
        self.reasons.iter().map(Reason::token).collect::<Vec<_>>().join(",")
    }
}

/// Who asks, and with that which annotation must say so.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The webhook: something must say that the pod is to be injected.
    Webhook,
    /// A person, by command: nothing must say that it is not.
    Command,
}

/// All reasons against a pod.
pub(crate) fn reasons(pod: Pod<'_>, annotations: Annotations<'_>, origin: Origin, projection: bool) -> Vec<Reason> {
    let mut reasons = vec![];
    if pod.uses_host_network() {
        reasons.push(Reason::HostNetwork);
    }
    if pod.has_sidecar() {
        reasons.push(Reason::SidecarExists);
    }
    reasons.extend(switched_off(annotations, origin));
    if pod.mounts_no_token() && !projection {
        reasons.push(Reason::NoToken);
    }
    reasons
}

fn switched_off(annotations: Annotations<'_>, origin: Origin) -> Option<Reason> {
    let (own, namespace) = (annotations.own(keys::INJECT), annotations.of_namespace(keys::INJECT));
    match (own, namespace, origin) {
        (Some("enabled" | "ingress"), ..) => None,
        (Some("disabled"), ..) => Some(Reason::Disabled),
        (Some(other), ..) => Some(Reason::InvalidAtWorkload(other.to_owned())),
        (None, Some("enabled" | "ingress"), _) | (None, _, Origin::Command) => None,
        (None, Some("disabled") | None, _) => Some(Reason::NotAnnotated),
        (None, Some(other), _) => Some(Reason::InvalidAtNamespace(other.to_owned())),
    }
}

/// Where the annotation that decides stands.
pub(crate) fn annotation_at(annotations: Annotations<'_>) -> &'static str {
    match (annotations.own(keys::INJECT), annotations.of_namespace(keys::INJECT)) {
        (Some(_), _) => "workload",
        (None, Some(_)) => "namespace",
        (None, None) => "",
    }
}
