//! Count of the streams that a client resets before they are answered. Each costs a request, and for HTTP/1 a
//! connection of the application.

use tokio::time::Instant;

use proxy_model::limits::{self, Limit};

use super::Trust;

/// Resets of one connection.
pub(super) struct Resets {
    limit: Limit<u32>,
    began: Option<Instant>,
    resets: u32,
    /// Streams answered since the window began.
    answered: u32,
}

impl Resets {
    pub(super) fn new(trust: Trust) -> Self {
        Self {
            limit: match trust {
                Trust::Stranger => limits::HTTP2_RESETS,
                Trust::Meshed => limits::HTTP2_MESHED_RESETS,
            },
            began: None,
            resets: 0,
            answered: 0,
        }
    }

    pub(super) fn answered(&mut self) {
        self.answered = self.answered.saturating_add(1);
    }

    /// Counts a reset; returns the limit that it exceeds.
    pub(super) fn reset(&mut self) -> Option<Limit<u32>> {
        let now = Instant::now();
        let window = limits::HTTP2_RESET_WINDOW.value;
        if self.began.is_none_or(|began| now.duration_since(began) > window) {
            (self.began, self.resets, self.answered) = (Some(now), 0, 0);
        }
        self.resets += 1;
        let allowed = self.limit.value.saturating_add(self.answered);
        (self.resets > allowed).then_some(self.limit)
    }
}
