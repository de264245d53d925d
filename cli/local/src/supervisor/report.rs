//! Reports of the supervisor to the outer process: one line of JSON each on standard output. Never blocks: a report
//! that finds the queue full is dropped.

use std::{collections::HashSet, io::Write as _, sync::mpsc};

use crate::start::{Progress, Report};

/// Queued reports.
const WAITING: usize = 256;
/// Remembered notes, so that none is sent twice.
const REMEMBERED: usize = 2000;

/// Sender of reports.
pub(super) struct Reporter {
    lines: mpsc::SyncSender<String>,
    sent: HashSet<String>,
    last: Option<Progress>,
}

impl Reporter {
    /// Starts the writer thread.
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
            sent: HashSet::new(),
            last: None,
        }
    }

    /// Sends a report.
    pub(super) fn send(&self, report: &Report) {
        let line = serde_json::to_string(report).expect("plain values");
        if self.lines.try_send(line).is_err() {
            tracing::warn!("dropped a report");
        }
    }

    /// Sends a message for the user, once.
    pub(super) fn note(&mut self, text: String) {
        if self.sent.len() >= REMEMBERED {
            self.sent.clear();
        }
        if self.sent.insert(text.clone()) {
            tracing::info!("{text}");
            self.send(&Report::Progress(Progress::Note(text)));
        }
    }

    /// Sends the progress of the start, if it has changed.
    pub(super) fn progress(&mut self, progress: Progress) {
        if self.last.as_ref() != Some(&progress) {
            self.send(&Report::Progress(progress.clone()));
            self.last = Some(progress);
        }
    }
}
