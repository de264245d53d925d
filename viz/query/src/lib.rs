//! From scrapes to rows: pure, no clock, no I/O.
//!
//! ```text
//! text of /metrics --[parse]--> lines --[window]--> counted increases --[stat, edges, routes, authz]--> rows
//!                                                       ^ Objects: which pod belongs to whom
//! ```
//!
//! A rate is an increase divided by the time that the scrapes really cover, never by the time that was asked for.

pub mod authz;
pub mod edges;
mod figures;
pub mod objects;
pub mod parse;
pub mod quantile;
pub mod routes;
mod series;
pub mod stat;
pub mod window;

pub use authz::authz;
pub use edges::edges;
pub use objects::{Objects, Pod, PodKey, Profile, Service, Split, Workload};
pub use routes::routes;
pub use stat::{Refusal, stat};
pub use window::{Limits, Window};
