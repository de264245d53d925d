//! Bound on the lines that a repeated event logs.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

const WINDOW: Duration = Duration::from_secs(1);

/// Lines of one kind logged in the current second. Further ones are only counted.
#[derive(Copy, Clone, Debug, Default)]
pub struct LogQuota {
    began: Option<Instant>,
    logged: u32,
    suppressed: u64,
}

impl LogQuota {
    /// Returns the number of lines left out since the last one if one may be logged now, at most `most` in a second.
    pub fn admit(&mut self, most: u32, now: Instant) -> Option<u64> {
        if self
            .began
            .is_none_or(|began| now.saturating_duration_since(began) >= WINDOW)
        {
            self.began = Some(now);
            self.logged = 0;
        }
        if self.logged >= most {
            self.suppressed += 1;
            return None;
        }
        self.logged += 1;
        Some(std::mem::take(&mut self.suppressed))
    }

    /// The same, for a quota that one thread shares.
    pub fn admit_shared(shared: &Cell<Self>, most: u32, now: Instant) -> Option<u64> {
        let mut quota = shared.get();
        let admitted = quota.admit(most, now);
        shared.set(quota);
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admits_a_few_in_a_second_and_counts_the_rest() {
        let (mut quota, now) = (LogQuota::default(), Instant::now());
        let admitted: Vec<_> = (0..4).map(|_| quota.admit(2, now)).collect();
        assert_eq!(admitted, [Some(0), Some(0), None, None]);
        assert_eq!(quota.admit(2, now + WINDOW), Some(2));
        assert_eq!(quota.admit(2, now + WINDOW), Some(0));
    }

    #[test]
    fn a_shared_quota_keeps_its_count() {
        let (quota, now) = (Cell::new(LogQuota::default()), Instant::now());
        let admit = |at| LogQuota::admit_shared(&quota, 2, at);
        assert_eq!((admit(now), admit(now)), (Some(0), Some(0)));
        assert_eq!((admit(now), admit(now)), (None, None));
        assert_eq!(admit(now + WINDOW), Some(2));
        assert_eq!(admit(now + WINDOW), Some(0), "reported once");
    }
}
