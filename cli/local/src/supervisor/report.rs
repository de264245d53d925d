//! Reports of the supervisor to the outer process: one line of JSON each on standard output. Never blocks: a report
//! that finds the queue full is dropped.

use std::{collections::HashSet, io::Write as _, sync::mpsc};

use time::OffsetDateTime;

use crate::start::{Progress, Report};

/// Queued reports.
const WAITING: usize = 256;
/// Remembered notes, so that none is sent twice.
const REMEMBERED: usize = 2000;

/// Sender of reports.
pub(crate) struct Reporter {
    lines: mpsc::SyncSender<String>,
    sent: HashSet<String>,
    last: Option<Progress>,
}

impl Reporter {
    /// Starts the writer thread.
    pub(crate) fn start() -> Self {
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
    pub(crate) fn send(&self, report: &Report) {
        let line = serde_json::to_string(report).expect("plain values");
        if self.lines.try_send(line).is_err() {
            tracing::warn!("dropped a report");
        }
    }

    /// Sends a message for the user, once.
    pub(crate) fn note(&mut self, text: String) {
        self.note_prefixed("", text);
    }

    /// Sends a message for the user with a prefix that does not count for its identity, once.
    pub(crate) fn note_prefixed(&mut self, prefix: &str, text: String) {
        if self.is_new(&text) {
            if self.sent.len() >= REMEMBERED {
                self.sent.clear();
            }
            tracing::info!("{prefix}{text}");
            let now = OffsetDateTime::now_utc();
            let (hour, minute, second) = (now.hour(), now.minute(), now.second());
            let note = format!("{hour:02}:{minute:02}:{second:02}Z {prefix}{text}");
            self.send(&Report::Progress(Progress::Note(note)));
            self.sent.insert(text);
        }
    }

    /// Allows messages that contain `part` to be sent again.
    pub(crate) fn forget(&mut self, part: &str) {
        self.sent.retain(|text| !text.contains(part));
    }

    /// Returns true for a message that was not sent yet.
    pub(crate) fn is_new(&self, text: &str) -> bool {
        !self.sent.contains(text)
    }

    /// Sends the progress of the start, if it has changed.
    pub(crate) fn progress(&mut self, progress: Progress) {
        if self.last.as_ref() != Some(&progress) {
            self.send(&Report::Progress(progress.clone()));
            self.last = Some(progress);
        }
    }
}
