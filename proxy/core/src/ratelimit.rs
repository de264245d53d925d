//! Rate limit by the generic cell rate algorithm: one word of state, no lock.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

const SECOND_NS: u64 = 1_000_000_000;

/// Limit of requests per second with a burst of one second. One per process and key, shared by the workers.
#[derive(Debug)]
pub struct Gcra {
    epoch: Instant,
    /// Theoretical arrival time of the next request, in nanoseconds since `epoch`.
    next_ns: AtomicU64,
    interval_ns: u64,
    burst_ns: u64,
}

impl Gcra {
    /// Creates a limit with its full burst.
    pub fn new(per_second: NonZeroU32, now: Instant) -> Self {
        let interval_ns = (SECOND_NS / u64::from(per_second.get())).max(1);
        let burst_ns = interval_ns * u64::from(per_second.get() - 1);
        Self {
            epoch: now,
            next_ns: AtomicU64::new(0),
            interval_ns,
            burst_ns,
        }
    }

    /// Admits and counts a request at `now`; false if it exceeds the limit.
    #[must_use]
    pub fn admit(&self, now: Instant) -> bool {
        let now = u64::try_from(now.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX);
        let admit = |next: u64| {
            (next <= now.saturating_add(self.burst_ns)).then(|| next.max(now).saturating_add(self.interval_ns))
        };
        self.next_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, admit)
            .is_ok()
    }

    /// Returns true if the limit has its full burst again, so that it can be dropped and recreated.
    pub fn is_idle(&self, now: Instant) -> bool {
        let now = u64::try_from(now.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX);
        self.next_ns.load(Ordering::Relaxed) <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn limit(per_second: u32, now: Instant) -> Gcra {
        Gcra::new(NonZeroU32::new(per_second).expect("not 0"), now)
    }

    #[test]
    fn admits_a_burst_then_the_rate() {
        let now = Instant::now();
        let limit = limit(10, now);
        assert_eq!((0..20).filter(|_| limit.admit(now)).count(), 10);
        assert!(!limit.admit(now + Duration::from_millis(99)));
        assert!(limit.admit(now + Duration::from_millis(100)) && !limit.admit(now + Duration::from_millis(100)));
        assert!(!limit.is_idle(now + Duration::from_millis(500)));
        let later = now + Duration::from_secs(100);
        assert!(limit.is_idle(later));
        assert_eq!((0..20).filter(|_| limit.admit(later)).count(), 10);
    }

    #[test]
    fn holds_the_rate_over_time() {
        let now = Instant::now();
        let limit = limit(100, now);
        let admitted = (0..100_000)
            .filter(|i| limit.admit(now + Duration::from_micros(i * 100)))
            .count();
        assert!(
            (1_090..=1_101).contains(&admitted),
            "10 s at 100/s and the burst: {admitted}"
        );
    }

    #[test]
    fn supports_the_smallest_and_the_largest_rate() {
        let now = Instant::now();
        let one = limit(1, now);
        assert!(one.admit(now) && !one.admit(now) && one.admit(now + Duration::from_secs(1)));
        let many = limit(u32::MAX, now);
        assert!((0..1_000).all(|_| many.admit(now)));
    }
}
