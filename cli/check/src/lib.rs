//! Checks of `mesh check`, as pure functions of facts about a cluster. Knows no client: facts come from a `FactSource`.
//!
//! ```text
//! cluster ─[FactSource::load]─▶ Facts ─▶ categories: Check* ─▶ Outcome ─▶ Report: table, short, JSON
//!                                 ▲         │ failed, but may pass later
//!                                 └─────────┘
//! ```
//! So every check can be tested with made-up facts, and a pending check is repeated with new ones.

mod categories;
mod check;
mod facts;
mod report;
mod run;
pub mod stdout;

pub use categories::{categories, version_of};
pub use check::{Category, Check, Outcome, Severity};
pub use facts::{Facts, List, ListError, ListRequest, Mode, ObjectKind, Permission, Scope, view_pod};
pub use report::{CategoryReport, CheckReport, CheckResult, Report, ReportFormat};
pub use run::{Event, FactSource, run};

/// Limits, each with its reason.
pub mod limits {
    /// Names listed in one sentence; more are not read.
    pub const NAMES: usize = 5;
    /// Proxies queried for metrics, with one connection each; the others are counted.
    pub const PROXIES: usize = 200;
    /// Size of one proxy's metrics.
    pub const METRICS_BYTES: usize = 8 * 1024 * 1024;
}
