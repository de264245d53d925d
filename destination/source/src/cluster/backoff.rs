//! Exponential backoff with jitter.

use std::time::Duration;

/// First delay.
const FIRST: Duration = Duration::from_millis(100);
/// Longest delay while the server is unreachable: an attempt is cheap, and missed changes should arrive soon.
pub(super) const AWAY: Duration = Duration::from_secs(1);
/// Longest delay while the server responds with errors: it may be overloaded.
pub(super) const ERRORS: Duration = Duration::from_secs(10);

/// Sequence of delays, each twice as long as the one before.
#[derive(Debug, Default)]
pub(super) struct Backoff(u32);

impl Backoff {
    /// Restarts the sequence.
    pub(super) fn reset(&mut self) {
        self.0 = 0;
    }

    /// Returns the number of consecutive failures.
    pub(super) fn failures(&self) -> u32 {
        self.0
    }

    /// Returns the next delay: up to `longest`, less a random part of up to a half.
    pub(super) fn next(&mut self, longest: Duration, random: f64) -> Duration {
        let delay = FIRST.saturating_mul(1 << self.0.min(16)).min(longest);
        self.0 = self.0.saturating_add(1);
        delay.mul_f64(1.0 - random / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_restart() {
        let mut backoff = Backoff::default();
        let delays: Vec<_> = (0..6).map(|_| backoff.next(AWAY, 0.0).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(backoff.next(AWAY, 1.0), AWAY / 2);
        backoff.reset();
        assert_eq!(backoff.next(ERRORS, 0.0), FIRST);
    }
}
