//! What every answer carries beside its rows: where they come from and how old they are.

use serde::{Deserialize, Serialize};

/// Rows, and what they rest on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer<R> {
    /// The rows, sorted.
    pub rows: Vec<R>,
    /// What they rest on.
    pub source: Source,
}

/// What rows rest on, so that a figure can be checked and not only believed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// What the samples came from: `scrapes` is mesh-viz's own window of scrapes.
    pub kind: String,
    /// Age of the newest sample, in milliseconds; none if there is no sample.
    pub age_ms: Option<u64>,
    /// The window that was asked for, in milliseconds.
    pub window_ms: u64,
    /// The longest time that any of the pods' samples really cover, in milliseconds.
    pub covered_ms: u64,
    /// Time between two scrapes, in milliseconds.
    pub scrape_interval_ms: u64,
    /// Pods whose samples are in the window.
    pub pods: usize,
    /// Pods whose last scrape failed.
    pub pods_failing: usize,
    /// Series and samples that a limit kept out.
    pub refused: u64,
}

/// Why a request was refused: one sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The sentence.
    pub error: String,
}
