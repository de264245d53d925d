//! How a pod joins the mesh: (pod, namespace, configuration) in; a JSON patch, a reason to skip it, or an error that names the
//! annotation to blame, out. Pure; the webhook and `mesh inject` both stand on it.
//!
//! ```text
//! values ──[config]──┐
//! annotations ───────┼─[settings]─┬─[env]─┐
//! pod ──[pod]────────┤            └─[containers]─[patch]─▶ Patch
//!                    └─[report]──▶ Skip(reasons)
//! ```

pub mod annotations;
mod component;
mod concern;
pub mod config;
mod containers;
pub mod edit;
mod env;
mod inject;
mod patch;
mod pod;
mod report;
mod service;
mod settings;
mod version;

#[cfg(test)]
mod tests;

pub use annotations::{Namespace, Place};
pub use config::Config;
pub use inject::{Injector, Outcome, Owner, Workload};
pub use patch::Patch;
pub use pod::template_path;
pub use report::{Origin, Reason, Report};
pub use settings::POLICIES;
pub use version::has_native_sidecars;

/// Why something is neither injected nor skipped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The values of the chart are of the wrong types.
    #[error("the control plane's values cannot be read: {0}")]
    Values(String),
    /// A value of the chart is wrong.
    #[error("the value {field}: {reason}")]
    Value {
        /// Its name.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// An annotation has a value that nobody knows.
    #[error("the annotation {key} {place} is {value:?}, but must be {expected}")]
    Annotation {
        /// Its name.
        key: String,
        /// Where it stands.
        place: Place,
        /// What it says.
        value: String,
        /// What it may say.
        expected: String,
    },
    /// A debug container is wanted, and nobody said which.
    #[error(
        "the annotation {} is set, but no image is: name one by the annotation {} or the value debugContainer.image.name",
        annotations::ENABLE_DEBUG_SIDECAR,
        annotations::DEBUG_IMAGE
    )]
    NoDebugImage,
    /// The object is no object of its kind.
    #[error("{resource} has no {field}, or it is none")]
    Object {
        /// Which.
        resource: String,
        /// What it lacks.
        field: &'static str,
    },
    /// A patch does not fit its object.
    #[error("the patch does not fit the object: {0}")]
    Apply(String),
}
