//! JSON patches that add a sidecar to manifests: (object, namespace, configuration) in; a patch, the reasons to skip
//! the object, or an error that names the annotation to blame, out. Pure; the webhook and `mesh inject` share it.
//!
//! ```text
//! object ──▶ Report ──▶ Skip(reasons)
//!              └─▶ SidecarSpec ──[render, patch]──▶ Inject(Patch)
//! ```
//!
//! The sidecar itself is defined in `injector-sidecar`; this crate only writes it as JSON.

mod concern;
pub mod edit;
mod inject;
mod patch;
mod render;
mod service;
mod version;

#[cfg(test)]
mod tests;

pub use inject::{Injector, Outcome, Owner, Workload};
pub use injector_sidecar::{Config, Namespace, Origin, Place, Reason, Report, annotations, config, template_path};
pub use patch::Patch;
pub use version::supports_native_sidecars;

/// Error of an object that is neither injected nor skipped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An invalid configuration or annotation.
    #[error(transparent)]
    Sidecar(#[from] injector_sidecar::Error),
    /// An object that is not valid for its kind.
    #[error("invalid {resource}: no {field}")]
    Object {
        /// Resource.
        resource: String,
        /// Missing field.
        field: &'static str,
    },
    /// A patch for another object.
    #[error("cannot apply the patch: {0}")]
    Apply(String),
}
