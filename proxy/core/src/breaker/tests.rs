//! Tests of the breaker: opening, backoff, the probe, closing, stragglers.

use super::*;

const S: Duration = Duration::from_secs(1);

fn backoff() -> Option<Backoff> {
    Some(Backoff {
        min: S,
        max: 8 * S,
        jitter: 0.0,
        respect_retry_after_hint: false,
    })
}

fn consecutive(max_failures: u32) -> FailureAccrual {
    FailureAccrual::Consecutive {
        max_failures,
        backoff: backoff(),
        min_ready: None,
    }
}

fn unified(threshold: f64, min_requests: u32, max_consecutive_failures: u32) -> FailureAccrual {
    FailureAccrual::Unified {
        success_rate_threshold: threshold,
        decay: Some(10 * S),
        min_requests,
        max_consecutive_failures,
        backoff: backoff(),
        min_ready: None,
    }
}

struct Bench {
    breaker: Breaker,
    rng: fastrand::Rng,
    now: Instant,
}

impl Bench {
    fn new(policy: &FailureAccrual) -> Self {
        let now = Instant::now();
        Self {
            breaker: Breaker::new(policy, now).expect("a breaker"),
            rng: fastrand::Rng::with_seed(1),
            now,
        }
    }

    fn send(&mut self, outcome: Outcome) {
        let ticket = self.breaker.admit(self.now).expect("ready");
        self.breaker.record(ticket, outcome, self.now, &mut self.rng);
    }

    fn ready(&self) -> bool {
        self.breaker.is_ready(self.now)
    }
}

#[test]
fn opens_after_consecutive_failures_and_one_probe_decides() {
    let mut b = Bench::new(&consecutive(3));
    for outcome in [
        Outcome::Failure,
        Outcome::Failure,
        Outcome::Success,
        Outcome::Failure,
        Outcome::Failure,
    ] {
        b.send(outcome);
    }
    assert!(b.ready(), "the success reset the count");
    b.send(Outcome::Failure);
    assert!(!b.ready() && b.breaker.admit(b.now).is_none());
    assert_eq!(b.breaker.ready_at(), Some(b.now + S));

    b.now += S;
    let probe = b.breaker.admit(b.now).expect("the probe");
    assert!(b.breaker.admit(b.now).is_none(), "only one");
    b.breaker.record(probe, Outcome::Failure, b.now, &mut b.rng);
    b.now += S;
    assert!(!b.ready(), "the second wait is longer");
    b.now += S;
    b.send(Outcome::Success);
    assert!(b.ready());
    b.send(Outcome::Failure);
    b.send(Outcome::Failure);
    assert!(b.ready());
    b.send(Outcome::Failure);
    assert_eq!(
        b.breaker.ready_at(),
        Some(b.now + S),
        "the backoff starts over after a success"
    );
}

#[test]
fn ignores_stragglers_and_repeats_an_abandoned_probe() {
    let mut b = Bench::new(&consecutive(1));
    let straggler = b.breaker.admit(b.now).expect("ready");
    let other = b.breaker.admit(b.now).expect("ready");
    b.send(Outcome::Failure);
    b.breaker.record(straggler, Outcome::Success, b.now, &mut b.rng);
    assert!(!b.ready());
    b.now += S;
    let probe = b.breaker.admit(b.now).expect("the probe");
    b.breaker.record(other, Outcome::Success, b.now, &mut b.rng);
    assert!(!b.ready(), "a straggler is not the probe");
    b.breaker.abandon(probe, b.now);
    assert!(b.ready(), "it may be probed again at once");
    b.send(Outcome::Success);
    b.send(Outcome::Success);
}

#[test]
fn opens_on_a_low_success_rate_after_enough_requests() {
    let mut b = Bench::new(&unified(0.8, 10, 0));
    for _ in 0..7 {
        b.send(Outcome::Success);
    }
    b.send(Outcome::Failure);
    b.send(Outcome::RateLimited);
    assert!(b.ready(), "too few to judge");
    b.send(Outcome::RateLimited);
    assert!(!b.ready(), "7 of 10 is below 0.8");
    b.now += S;
    b.send(Outcome::RateLimited);
    assert!(!b.ready(), "a rate-limited probe fails");
    b.now += 2 * S;
    b.send(Outcome::Success);
    b.send(Outcome::Failure);
    assert!(b.ready(), "the window starts over");
}

#[test]
fn the_window_slides() {
    let mut b = Bench::new(&unified(0.5, 4, 0));
    for _ in 0..3 {
        b.send(Outcome::Failure);
    }
    b.now += 11 * S;
    b.send(Outcome::Failure);
    assert!(b.ready(), "the older ones are out of the window");
}

#[test]
fn zero_disables_a_condition() {
    let mut b = Bench::new(&consecutive(0));
    for _ in 0..100 {
        b.send(Outcome::Failure);
    }
    assert!(b.ready());
    let mut b = Bench::new(&unified(0.0, 1, 2));
    b.send(Outcome::Failure);
    assert!(b.ready());
    b.send(Outcome::Failure);
    assert!(!b.ready());
    assert!(Breaker::new(&FailureAccrual::None { min_ready: Some(1) }, b.now).is_none());
}
