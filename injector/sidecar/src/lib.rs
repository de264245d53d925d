//! The one definition of a sidecar: configuration, annotations and facts about a pod in, a [`SidecarSpec`] out. It also
//! decides whether a pod gets a sidecar at all ([`Report`]). Pure.
//!
//! ```text
//! values ──[config]──┐                            ┌─▶ injector-patch: JSON patch (webhook, `mesh inject`)
//! annotations ───────┼─[resolve, env]─▶ SidecarSpec ┼─▶ [process]: a process on this machine (`mesh local`)
//! pod ──[pod]────────┘                            └─▶ mesh-charts: the partial of the control plane's chart
//! ```
//!
//! It must not know JSON patches, admission reviews, clients or files.

pub mod annotations;
pub mod config;
mod env;
mod parse;
mod pod;
pub mod process;
mod redirection;
mod report;
mod resolve;
mod spec;

#[cfg(test)]
mod tests;

use std::fmt::Display;

pub use annotations::{Annotations, Namespace, Place};
pub use config::Config;
pub use pod::{Component, Pod, PodFacts, template, template_path};
pub use redirection::{InitContainer, RedirectMethod, Redirection, Validator};
pub use report::{Origin, Reason, Report};
pub use spec::{
    EnvDuration, EnvName, EnvValue, HttpProbe, ImageRef, Lifecycle, Probes, ProxySettings, SecurityContext,
    SidecarSpec, Timeouts, Workers,
};

/// Names of what injection adds to a pod.
pub mod names {
    pub use destination_k8s::keys::PROXY_CONTAINER;

    /// Init container that installs the redirection rules.
    pub const INIT_CONTAINER: &str = "linkerd-init";
    /// Init container that checks the CNI plugin's redirection.
    pub const VALIDATOR_CONTAINER: &str = "linkerd-network-validator";
    /// Debug container.
    pub const DEBUG_CONTAINER: &str = "linkerd-debug";
    /// Volume of the private key and CSR.
    pub const IDENTITY_VOLUME: &str = "linkerd-identity-end-entity";
    /// Volume of the projected token.
    pub const TOKEN_VOLUME: &str = "linkerd-identity-token";
    /// Volume of the pod's labels and annotations.
    pub const PODINFO_VOLUME: &str = "linkerd-podinfo";
    /// Mount path of [`IDENTITY_VOLUME`].
    pub const IDENTITY_DIR: &str = "/var/run/linkerd/identity/end-entity";
    /// Mount path of [`TOKEN_VOLUME`].
    pub const TOKEN_DIR: &str = "/var/run/secrets/tokens";
    /// File name of the projected token.
    pub const TOKEN_FILE: &str = "linkerd-identity-token";
    /// Audience of the projected token.
    pub const TOKEN_AUDIENCE: &str = "identity.l5d.io";
    /// Lifetime of the projected token.
    pub const TOKEN_SECONDS: u32 = 86_400;
    /// File of the API server's token, where no token is projected.
    pub const API_TOKEN_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
    /// Mount path of [`PODINFO_VOLUME`].
    pub const PODINFO_DIR: &str = "/var/run/linkerd/podinfo";
    /// ConfigMap of the trust anchors, which control plane pods reference to follow rotations.
    pub const TRUST_ROOTS: &str = "linkerd-identity-trust-roots";
    /// Key of the trust anchors in [`TRUST_ROOTS`].
    pub const TRUST_ROOTS_KEY: &str = "ca-bundle.crt";
    /// Program in the sidecar's image.
    pub const PROXY_PROGRAM: &str = "/mesh-proxy";
}

/// Error of a configuration or annotation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Values of the wrong types.
    #[error("invalid control plane values: {0}")]
    Values(String),
    /// An invalid value of the chart.
    #[error("invalid value {field}: {reason}")]
    Value {
        /// Path of the value.
        field: &'static str,
        /// Reason.
        reason: String,
    },
    /// An invalid value of an annotation.
    #[error("invalid annotation {key} {place}: {value:?} is not {expected}")]
    Annotation {
        /// Key.
        key: String,
        /// Location.
        place: Place,
        /// Value found.
        value: String,
        /// Values allowed.
        expected: String,
    },
    /// A debug container without an image.
    #[error(
        "annotation {} requires an image: set annotation {} or value debugContainer.image.name",
        annotations::ENABLE_DEBUG_SIDECAR,
        annotations::DEBUG_IMAGE
    )]
    NoDebugImage,
}

impl Error {
    pub(crate) fn value(field: &'static str, reason: impl Display) -> Self {
        Self::Value {
            field,
            reason: reason.to_string(),
        }
    }
}
