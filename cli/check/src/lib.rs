//! What `mesh check` finds out, without a cluster in sight: a check is a pure function of facts.
//!
//! ```text
//! cluster ─[Source::load]─▶ Facts ─▶ categories: Check* ─▶ Outcome ─▶ Report: table, short, JSON
//!                              ▲         │ not yet, and worth a wait
//!                              └─────────┘
//! ```
//! So every check can be tried with made-up facts, and a check that may come true is asked again with new ones.

mod categories;
mod check;
mod facts;
mod report;
mod run;
pub mod stdout;

pub use categories::{categories, version_of};
pub use check::{Category, Check, Outcome, Severity};
pub use facts::{Ask, Facts, List, Missing, Mode, Right, Want, What};
pub use report::{CategoryReport, CheckReport, Format, Report, Result};
pub use run::{Event, Source, run};

/// Limits, each with its reason.
pub mod limits {
    /// Names in one sentence; nobody reads more.
    pub const NAMES: usize = 5;
    /// Proxies that are asked for their metrics, one connection each; the others are counted.
    pub const PROXIES: usize = 200;
    /// Bytes of one proxy's metrics.
    pub const METRICS_BYTES: usize = 8 * 1024 * 1024;
}
