//! The README's quick start on Kubernetes, line by line.

use std::sync::Arc;

use libtest_mimic::Trial;
use tests_cluster::bed::Bed;

/// From an empty cluster to rows.
pub(crate) fn install(_bed: &Arc<Bed>) -> Vec<Trial> {
    Vec::new()
}

/// And back to an empty one.
pub(crate) fn uninstall(_bed: &Arc<Bed>) -> Vec<Trial> {
    Vec::new()
}
