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
        ejection: Ejection::default(),
    }
}

fn unified(threshold: f64, min_requests: u32, max_consecutive_failures: u32) -> FailureAccrual {
    FailureAccrual::Unified {
        success_rate_threshold: threshold,
        decay: Some(10 * S),
        min_requests,
        max_consecutive_failures,
        backoff: backoff(),
        ejection: Ejection::default(),
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

    fn send(&mut self, outcome: Outcome) -> Option<Change> {
        let ticket = self.breaker.admit(self.now).expect("ready");
        self.end(ticket, outcome)
    }

    fn end(&mut self, ticket: Ticket, outcome: Outcome) -> Option<Change> {
        self.end_with(ticket, outcome, None, true)
    }

    fn end_with(
        &mut self,
        ticket: Ticket,
        outcome: Outcome,
        retry_after: Option<Duration>,
        may_eject: bool,
    ) -> Option<Change> {
        let report = Report {
            outcome,
            retry_after,
            now: self.now,
        };
        self.breaker.record(ticket, report, &mut self.rng, || may_eject)
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
    assert_eq!(b.send(Outcome::Failure), Some(Change::Opened { wait: S }));
    assert!(!b.ready() && b.breaker.admit(b.now).is_none());
    assert_eq!(b.breaker.ready_at(), Some(b.now + S));

    b.now += S;
    let probe = b.breaker.admit(b.now).expect("the probe");
    assert!(b.breaker.admit(b.now).is_none(), "only one");
    assert_eq!(b.end(probe, Outcome::Failure), Some(Change::StaysOpen { wait: 2 * S }));
    b.now += S;
    assert!(!b.ready(), "the second wait is longer");
    b.now += S;
    assert_eq!(b.send(Outcome::Success), Some(Change::Closed));
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
    assert_eq!(b.end(straggler, Outcome::Success), None);
    assert!(!b.ready());
    b.now += S;
    let probe = b.breaker.admit(b.now).expect("the probe");
    assert_eq!(b.end(other, Outcome::Success), None);
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
    assert!(
        Breaker::new(
            &FailureAccrual::None {
                ejection: Ejection::default()
            },
            b.now
        )
        .is_none()
    );
}

#[test]
fn a_rate_limited_probe_fails_only_where_the_rate_judges() {
    for (policy, is_ready) in [(consecutive(1), true), (unified(0.0, 1, 1), false)] {
        let mut b = Bench::new(&policy);
        b.send(Outcome::Failure);
        b.now += S;
        b.send(Outcome::RateLimited);
        assert_eq!(b.ready(), is_ready, "{policy:?}");
    }
}

#[test]
fn an_endpoint_may_ask_for_a_longer_wait_up_to_the_longest() {
    for (honors, asked, wait) in [(true, 5, 5), (true, 0, 1), (true, 3600, 8), (false, 5, 1)] {
        let backoff = backoff().map(|backoff| Backoff {
            respect_retry_after_hint: honors,
            ..backoff
        });
        let mut b = Bench::new(&FailureAccrual::Consecutive {
            max_failures: 1,
            backoff,
            ejection: Ejection::default(),
        });
        assert_eq!(b.breaker.honors_retry_after(), honors);
        let ticket = b.breaker.admit(b.now).expect("ready");
        let change = b.end_with(ticket, Outcome::Failure, Some(asked * S), true);
        assert_eq!(change, Some(Change::Opened { wait: wait * S }), "{honors} {asked}");
    }
}

#[test]
fn an_endpoint_that_cannot_be_spared_stays_and_goes_when_it_can() {
    let mut b = Bench::new(&consecutive(2));
    for _ in 0..5 {
        let ticket = b.breaker.admit(b.now).expect("ready");
        assert_eq!(b.end_with(ticket, Outcome::Failure, None, false), None);
    }
    assert_eq!(b.send(Outcome::Failure), Some(Change::Opened { wait: S }));
    assert_eq!(b.breaker.release(b.now), Some(Change::Closed));
    assert_eq!((b.breaker.release(b.now), b.ready()), (None, true));
    b.send(Outcome::Failure);
    assert_eq!(b.send(Outcome::Failure), Some(Change::Opened { wait: 2 * S }));
    b.now += 2 * S;
    let probe = b.breaker.admit(b.now).expect("the probe");
    assert_eq!(b.end_with(probe, Outcome::Failure, None, false), Some(Change::Closed));
}

#[test]
fn floor_and_share_keep_endpoints() {
    for (min_ready, max_percent, total, most) in [
        (None, None, 0, 0),
        (None, None, 1, 1),
        (None, None, 2, 1),
        (None, None, 6, 5),
        (Some(0), None, 6, 6),
        (Some(2), None, 6, 4),
        (Some(7), None, 6, 0),
        (None, Some(50), 6, 3),
        (None, Some(30), 6, 1),
        (None, Some(10), 3, 1),
        (None, Some(100), 3, 2),
        (Some(0), Some(100), 3, 3),
        (Some(3), Some(100), 3, 0),
        (None, Some(0), 3, 0),
    ] {
        let ejection = Ejection { min_ready, max_percent };
        assert_eq!(most_ejected(ejection, total), most, "{ejection:?} of {total}");
    }
}
