//! Result of the check of one object (`check.rs`), which the store keeps and the views read.

use destination_k8s::{Object, ObjectRef};
use proxy_model::{
    budget::RouteBudget,
    limits::{Limit, Value},
};

use crate::route::Unsupported;

/// Object with the result of its check.
#[derive(Clone, Debug)]
pub struct Checked {
    pub(crate) object: Object,
    pub(crate) check: Check,
}

impl Checked {
    /// Returns the reference of the object.
    pub fn object_ref(&self) -> ObjectRef {
        self.object.object_ref()
    }

    /// Returns the limit for which the object is refused, if it is.
    pub fn exceeded(&self) -> Option<Limit<Value>> {
        match self.check.refusal {
            Some(Unsupported::Budget(exceeded)) => Some(exceeded.limit),
            _ => None,
        }
    }
}

/// Faults of an object regardless of others, which admission can report before the object is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Annotations with invalid values.
    pub annotations: Vec<String>,
    /// Content that the mesh cannot use.
    pub content: Vec<String>,
}

/// Result of a check; the default is that nothing is wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Check {
    pub(crate) faults: Faults,
    /// Positions of a profile's routes with an invalid condition, ascending.
    pub(crate) invalid_routes: Vec<usize>,
    /// Reason for which a route is ignored by clients.
    pub(crate) unsupported: Option<Unsupported>,
    /// Cost of a group's expressions to each target that names it; none without expressions.
    pub(crate) budget: Option<RouteBudget>,
    /// Reason for which the object has no effect: its expressions are invalid, or it is over its budget.
    pub(crate) refusal: Option<Unsupported>,
}

impl Check {
    /// Returns true if nothing is wrong, or to be remembered.
    pub(crate) fn is_clean(&self) -> bool {
        let is_fine = self.faults == Faults::default() && self.unsupported.is_none() && self.refusal.is_none();
        is_fine && self.budget.is_none()
    }
}
