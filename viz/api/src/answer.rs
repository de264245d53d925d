//! Part of every answer beside its rows: their source and age.

use serde::{Deserialize, Serialize};

/// Rows and their source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer<R> {
    /// Sorted rows.
    pub rows: Vec<R>,
    pub source: Source,
}

/// Samples that rows are computed from, so that a figure can be checked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Origin of the samples: `scrapes` is mesh-viz's own window of scrapes.
    pub kind: String,
    /// Age of the newest sample, in milliseconds; none if there is no sample.
    pub age_ms: Option<u64>,
    /// Requested window, in milliseconds.
    pub window_ms: u64,
    /// Longest time that the samples of any pod cover, in milliseconds.
    pub covered_ms: u64,
    /// Time between two scrapes, in milliseconds.
    pub scrape_interval_ms: u64,
    /// Pods whose samples are in the window.
    pub pods: usize,
    /// Pods whose last scrape failed.
    pub pods_failing: usize,
    /// Series and samples dropped by a limit.
    pub refused: u64,
}

/// Body of a rejection: one sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub error: String,
}
