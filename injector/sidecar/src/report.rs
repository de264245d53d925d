//! Inspection of an object before injection: what it is, and the reasons to skip it.

use std::fmt;

use destination_k8s::keys;
use serde_json::Value;

use crate::{
    annotations::{Annotations, Namespace},
    config::Config,
    pod::{self, Pod},
};

/// Reason to skip an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The pod shares the node's network.
    HostNetwork,
    /// The pod already has a sidecar, of this or another mesh.
    SidecarExists,
    /// The kind has no pod template.
    Unsupported,
    /// Neither the workload nor its namespace enables injection.
    NotAnnotated,
    /// The workload disables injection.
    Disabled,
    /// Unknown value of the workload's annotation.
    InvalidAtWorkload(String),
    /// Unknown value of the namespace's annotation.
    InvalidAtNamespace(String),
    /// The pod mounts no token, and the mesh projects none.
    NoToken,
}

impl Reason {
    /// Returns the metric label, upstream's word.
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

    /// Returns true if an Event should report the reason: not where injection was never requested.
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
        "the {place}'s annotation {}: {value:?} is not one of {}",
        keys::INJECT,
        keys::INJECT_VALUES.join(", ")
    )
}

/// Result of an inspection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Kind; empty if unset.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Declares UDP ports, which bypass the sidecar.
    pub udp: bool,
    /// Location of the deciding annotation: `workload`, `namespace` or empty.
    pub annotation_at: &'static str,
    /// Reasons to skip the object; empty if it is injectable.
    pub reasons: Vec<Reason>,
}

impl Report {
    /// Inspects an object.
    pub fn new(object: &Value, namespace: &Namespace, origin: Origin, config: &Config) -> Self {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let kind = text(object.get("kind"));
        let metadata = object.get("metadata");
        let name = text(metadata.and_then(|metadata| metadata.get("name").or_else(|| metadata.get("generateName"))));
        let pod = pod::template_path(&kind)
            .and_then(|path| pod::template(object, path))
            .map(Pod);
        let Some(pod) = pod.filter(|pod| pod.spec().is_some()) else {
            return Self {
                kind,
                name,
                reasons: vec![Reason::Unsupported],
                ..Self::default()
            };
        };
        let annotations = Annotations::new(pod.metadata(), namespace);
        let projection = config.identity.service_account_token_projection;
        Self {
            kind,
            name,
            udp: pod.uses_udp(),
            annotation_at: annotation_at(annotations),
            reasons: reasons(pod, annotations, origin, projection),
        }
    }

    /// Returns true if no reason speaks against injection.
    pub fn is_injectable(&self) -> bool {
        self.reasons.is_empty()
    }

    /// Returns the resource, such as `deployment/web`.
    pub fn resource(&self) -> String {
        format!("{}/{}", self.kind.to_lowercase(), self.name)
    }

    /// Returns the reasons as one sentence.
    pub fn sentence(&self) -> String {
        self.reasons
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// Returns the reasons as metric labels.
    pub fn tokens(&self) -> String {
        self.reasons.iter().map(Reason::token).collect::<Vec<_>>().join(",")
    }
}

/// Origin of a request, which decides whether injection is opt-in.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The webhook: an annotation must enable injection.
    Webhook,
    /// A command: injects unless an annotation disables it.
    Command,
}

fn reasons(pod: Pod<'_>, annotations: Annotations<'_>, origin: Origin, projection: bool) -> Vec<Reason> {
    let mut reasons = vec![];
    if pod.uses_host_network() {
        reasons.push(Reason::HostNetwork);
    }
    if pod.has_sidecar() {
        reasons.push(Reason::SidecarExists);
    }
    reasons.extend(annotation_reason(annotations, origin));
    if pod.mounts_no_token() && !projection {
        reasons.push(Reason::NoToken);
    }
    reasons
}

fn annotation_reason(annotations: Annotations<'_>, origin: Origin) -> Option<Reason> {
    let (own, namespace) = (annotations.own(keys::INJECT), annotations.on_namespace(keys::INJECT));
    match (own, namespace, origin) {
        (Some("enabled" | "ingress"), ..) => None,
        (Some("disabled"), ..) => Some(Reason::Disabled),
        (Some(other), ..) => Some(Reason::InvalidAtWorkload(other.to_owned())),
        (None, Some("enabled" | "ingress"), _) | (None, _, Origin::Command) => None,
        (None, Some("disabled") | None, _) => Some(Reason::NotAnnotated),
        (None, Some(other), _) => Some(Reason::InvalidAtNamespace(other.to_owned())),
    }
}

fn annotation_at(annotations: Annotations<'_>) -> &'static str {
    match (annotations.own(keys::INJECT), annotations.on_namespace(keys::INJECT)) {
        (Some(_), _) => "workload",
        (None, Some(_)) => "namespace",
        (None, None) => "",
    }
}
