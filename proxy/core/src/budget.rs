//! Retry budget: retries as a share of the requests in a sliding window, plus a minimum per second.

use std::time::{Duration, Instant};

use proxy_model::profile::RetryBudget as Params;

/// Slots of the sliding window.
const SLOTS: usize = 10;

/// Token bucket: a request deposits, a retry withdraws, and tokens older than the window expire. One per profile and
/// process, shared behind a lock.
#[derive(Debug)]
pub struct RetryBudget {
    slot: Duration,
    slots: [f64; SLOTS],
    current: usize,
    slot_start: Instant,
    deposit: f64,
    withdraw: f64,
    reserve: f64,
}

impl RetryBudget {
    /// Creates a budget; `None` if a parameter is out of upstream's range (`ttl` 1 s to 60 s, ratio 0 to 1000).
    pub fn new(params: &Params, now: Instant) -> Option<Self> {
        let ttl = params
            .ttl
            .filter(|ttl| (Duration::from_secs(1)..=Duration::from_secs(60)).contains(ttl))?;
        let ratio = f64::from(params.ratio);
        if !(0.0..=1000.0).contains(&ratio) {
            return None;
        }
        // A retry withdraws 1, a request deposits `ratio`. With a ratio of 0 there is only the reserve.
        Some(Self {
            slot: ttl / SLOTS as u32,
            slots: [0.0; SLOTS],
            current: 0,
            slot_start: now,
            deposit: ratio,
            withdraw: 1.0,
            reserve: f64::from(params.min_per_second) * ttl.as_secs_f64(),
        })
    }

    /// Deposits for a first attempt.
    pub fn deposit(&mut self, now: Instant) {
        self.expire(now);
        self.slots[self.current] += self.deposit;
    }

    /// Withdraws for a retry. Returns false if the budget does not allow it.
    #[must_use]
    pub fn withdraw(&mut self, now: Instant) -> bool {
        self.expire(now);
        // Tolerance for rounding: ten deposits of 0.1 allow one retry.
        let allowed = self.balance() + 1e-6 >= self.withdraw;
        if allowed {
            self.slots[self.current] -= self.withdraw;
        }
        allowed
    }

    fn balance(&self) -> f64 {
        self.reserve + self.slots.iter().sum::<f64>()
    }

    fn expire(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.slot_start).as_nanos() / self.slot.as_nanos();
        if passed == 0 {
            return;
        }
        for _ in 0..passed.min(SLOTS as u128) {
            self.current = (self.current + 1) % SLOTS;
            self.slots[self.current] = 0.0;
        }
        self.slot_start = if passed >= SLOTS as u128 {
            now
        } else {
            self.slot_start + self.slot * passed as u32
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(ratio: f32, min_per_second: u32, ttl_s: u64) -> Params {
        Params {
            ratio,
            min_per_second,
            ttl: Some(Duration::from_secs(ttl_s)),
        }
    }

    #[test]
    fn retries_are_a_share_of_requests() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(&params(0.2, 0, 10), now).expect("valid");
        assert!(!budget.withdraw(now));
        for _ in 0..10 {
            budget.deposit(now);
        }
        assert!(budget.withdraw(now) && budget.withdraw(now) && !budget.withdraw(now));
    }

    #[test]
    fn the_reserve_is_restored_after_the_window() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(&params(0.0, 1, 2), now).expect("valid");
        assert!(budget.withdraw(now) && budget.withdraw(now) && !budget.withdraw(now));
        assert!(!budget.withdraw(now + Duration::from_millis(1900)));
        let later = now + Duration::from_secs(30);
        assert!(budget.withdraw(later) && budget.withdraw(later) && !budget.withdraw(later));
    }

    #[test]
    fn deposits_expire() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(&params(1.0, 0, 10), now).expect("valid");
        budget.deposit(now);
        assert!(!budget.withdraw(now + Duration::from_secs(10)));
    }

    #[test]
    fn rejects_parameters_out_of_range() {
        let now = Instant::now();
        assert!(RetryBudget::new(&params(0.2, 10, 0), now).is_none());
        assert!(RetryBudget::new(&params(0.2, 10, 61), now).is_none());
        assert!(RetryBudget::new(&params(1001.0, 10, 10), now).is_none());
        assert!(RetryBudget::new(&params(f32::NAN, 10, 10), now).is_none());
        assert!(
            RetryBudget::new(
                &Params {
                    ratio: 0.2,
                    min_per_second: 1,
                    ttl: None
                },
                now
            )
            .is_none()
        );
    }

    #[test]
    fn bounds_retries_in_every_window() {
        let (ratio, reserve) = (0.2, 100.0);
        let mut rng = fastrand::Rng::with_seed(5);
        let start = Instant::now();
        let mut budget = RetryBudget::new(&params(0.2, 10, 10), start).expect("valid");
        // Requests at a rate that changes every two seconds, half of which fail; each failure is retried until it may
        // not be.
        let (mut requests, mut retries, mut at) = (Vec::new(), Vec::new(), 0.0);
        while at < 60.0 {
            let rate = [20.0, 500.0, 5.0, 100.0][(at / 2.0) as usize % 4];
            at += 2.0 * rng.f64() / rate;
            let now = start + Duration::from_secs_f64(at);
            budget.deposit(now);
            requests.push(at);
            while rng.bool() && budget.withdraw(now) {
                retries.push(at);
            }
        }
        let count =
            |times: &[f64], from: f64| times.iter().filter(|at| (from..from + 10.0).contains(*at)).count() as f64;
        for step in 0..100 {
            let from = f64::from(step) / 2.0;
            let (sent, again) = (count(&requests, from), count(&retries, from));
            // The window moves by slots of a tenth, so that two of its ends may be counted.
            assert!(
                again <= (reserve + ratio * sent) * 1.1 + 1.0,
                "{again} of {sent} from {from}"
            );
        }
        let used = retries.len() as f64 / requests.len() as f64;
        assert!(used > ratio, "the budget is used: {used}");
    }
}
