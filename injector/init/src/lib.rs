//! The init containers of a pod: `mesh-init` ([`rules`]) puts the traffic rules in place, `mesh-validator`
//! ([`validate`]) looks whether a CNI plugin did.

pub mod rules;
pub mod validate;
