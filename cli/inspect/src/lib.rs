//! The commands of `mesh` that look at a cluster, and what all commands share: which cluster is asked ([`cluster`]), and
//! what people see ([`output`]).

pub mod authz;
pub mod check;
pub mod cluster;
pub mod diagnostics;
pub mod identity;
pub mod output;
pub mod pods;
pub mod profile;
pub mod version;
