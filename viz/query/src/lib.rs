//! Computes rows from scrapes. Pure: no clock, no I/O.
//!
//! ```text
//! text of /metrics --[parse]--> lines --[window]--> counted increases --[stat, edges, routes, authz]--> rows
//!                                                       ^ Objects: pods with their owners
//! ```
//!
//! A rate is an increase divided by the time that the scrapes cover, never by the requested window.
//! Owned here: the window of samples and the meaning of each figure. Not known here: Kubernetes objects, HTTP.

pub mod authz;
mod destinations;
pub mod edges;
mod error;
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
pub use error::Error;
pub use objects::{Objects, Pod, PodKey, Profile, Service, Split, Workload};
pub use routes::routes;
pub use stat::stat;
pub use window::{Limits, Window};
