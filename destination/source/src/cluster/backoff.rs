//! How long to wait after a failure: longer each time, never all at the same moment.

use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait while nobody answers: looking costs little, and what changed in the meantime should not wait.
pub(super) const AWAY: Duration = Duration::from_secs(1);
/// The longest wait while the server answers with errors: it may have too much to do.
pub(super) const ERRORS: Duration = Duration::from_secs(10);

/// Waits, each twice as long as the one before.
#[derive(Debug, Default)]
pub(super) struct Backoff(u32);

impl Backoff {
    /// The next wait is a short one again.
    pub(super) fn reset(&mut self) {
        self.0 = 0;
    }

    /// How often something failed in a row.
    pub(super) fn failures(&self) -> u32 {
        self.0
    }

    /// The next wait: up to `longest`, less a random part of up to a half.
    pub(super) fn next(&mut self, longest: Duration, random: f64) -> Duration {
        let wait = FIRST.saturating_mul(1 << self.0.min(16)).min(longest);
        self.0 = self.0.saturating_add(1);
        wait.mul_f64(1.0 - random / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_again() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..6).map(|_| backoff.next(AWAY, 0.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(backoff.next(AWAY, 1.0), AWAY / 2);
        backoff.reset();
        assert_eq!(backoff.next(ERRORS, 0.0), FIRST);
    }
}
