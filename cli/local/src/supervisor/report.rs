//! What the supervisor tells the outer process: a line of JSON each on standard output. Never waits: a report that finds no
//! room is dropped.

use std::{collections::HashSet, io::Write as _, sync::mpsc};

use crate::start::{Progress, Report};

/// Reports that wait to be written.
const WAITING: usize = 256;
/// Notes that are remembered, so that none is told twice.
const REMEMBERED: usize = 2000;

/// Tells the outer process.
pub(super) struct Reporter {
    lines: mpsc::SyncSender<String>,
    told: HashSet<String>,
    last: Option<Progress>,
}

impl Reporter {
    /// Starts the thread that writes.
    pub(super) fn start() -> Self {
        let (lines, receiver) = mpsc::sync_channel::<String>(WAITING);
        std::thread::spawn(move || {
            let mut out = std::io::stdout();
            for line in receiver {
                if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
                    return;
                }
            }
        });
        Self {
            lines,
            told: HashSet::new(),
            last: None,
        }
    }

    /// Tells something.
    pub(super) fn send(&self, report: &Report) {
        let line = serde_json::to_string(report).expect("plain values");
        if self.lines.try_send(line).is_err() {
            tracing::warn!("a report was dropped");
        }
    }

    /// Tells a person something, once.
    pub(super) fn note(&mut self, text: String) {
        if self.told.len() >= REMEMBERED {
            self.told.clear();
        }
        if self.told.insert(text.clone()) {
            tracing::info!("{text}");
            self.send(&Report::Progress(Progress::Note(text)));
        }
    }

    /// Tells how far a start is, if that changed.
    pub(super) fn progress(&mut self, progress: Progress) {
        if self.last.as_ref() != Some(&progress) {
            self.send(&Report::Progress(progress.clone()));
            self.last = Some(progress);
        }
    }
}
