//! Failure accrual: ejects a failing endpoint and probes it until it recovers.
//!
//! ```text
//! closed --too many failures--> open --its wait is over--> probing --success--> closed
//!                                 ^---------------failure, longer wait---'
//! ```
//!
//! [`most_ejected`] bounds how many endpoints of a service are ejected at a time.
//!
//! A request takes a [`Ticket`] and returns it with its outcome. Requests that began before the last change of state
//! are ignored, so that a straggler is never mistaken for the probe.

use std::time::{Duration, Instant};

use proxy_model::{
    defaults,
    outbound::{Ejection, FailureAccrual},
    route::Backoff,
};

use crate::backoff;

/// Slots of the sliding window of a success rate.
const SLOTS: usize = 10;

/// Outcome of a request for a breaker.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Classified as a success.
    Success,
    /// Classified as a failure.
    Failure,
    /// The endpoint reported overload. Not a failure in a row; it counts against a success rate, and fails a probe of a
    /// breaker that judges by the rate.
    RateLimited,
}

/// End of a request.
#[derive(Copy, Clone, Debug)]
pub struct Report {
    /// Outcome.
    pub outcome: Outcome,
    /// Time that the endpoint asked its clients to wait, if the policy honors it.
    pub retry_after: Option<Duration>,
    /// Time of the report.
    pub now: Instant,
}

/// Change of a breaker's state that others notice.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The endpoint was ejected.
    Opened {
        /// Time until its probe.
        wait: Duration,
    },
    /// The probe failed; the endpoint stays ejected.
    StaysOpen {
        /// Time until the next probe.
        wait: Duration,
    },
    /// The endpoint takes requests again.
    Closed,
}

/// Breaker of one endpoint.
#[derive(Debug)]
pub struct Breaker {
    max_consecutive: u32,
    rate: Option<Rate>,
    /// Overload fails a probe.
    is_unified: bool,
    backoff: Backoff,
    consecutive: u32,
    state: State,
    /// Counts changes of state.
    generation: u32,
    /// Openings since the last success.
    openings: u32,
}

/// Permission to send one request. Return it by [`Breaker::record`] or [`Breaker::abandon`].
#[must_use]
#[derive(Debug)]
pub struct Ticket {
    generation: u32,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Instant },
    Probing,
}

impl Breaker {
    /// Creates a closed breaker; `None` if the policy has none.
    pub fn new(policy: &FailureAccrual, now: Instant) -> Option<Self> {
        let (max_consecutive, backoff, rate) = match policy {
            FailureAccrual::None { .. } => return None,
            FailureAccrual::Consecutive {
                max_failures, backoff, ..
            } => (*max_failures, backoff, None),
            FailureAccrual::Unified {
                success_rate_threshold,
                decay,
                min_requests,
                max_consecutive_failures,
                backoff,
                ..
            } => {
                let window = decay.filter(|window| !window.is_zero() && *success_rate_threshold > 0.0);
                let rate = window.map(|window| Rate::new(*success_rate_threshold, window, *min_requests, now));
                (*max_consecutive_failures, backoff, rate)
            }
        };
        Some(Self {
            max_consecutive,
            rate,
            is_unified: matches!(policy, FailureAccrual::Unified { .. }),
            backoff: backoff.unwrap_or(defaults::BREAKER_BACKOFF),
            consecutive: 0,
            state: State::Closed,
            generation: 0,
            openings: 0,
        })
    }

    /// Returns true if `retry-after` of a response lengthens the ejection.
    pub fn honors_retry_after(&self) -> bool {
        self.backoff.respect_retry_after_hint
    }

    /// Returns true if a request may be sent now.
    pub fn is_ready(&self, now: Instant) -> bool {
        match self.state {
            State::Closed => true,
            State::Open { until } => now >= until,
            State::Probing => false,
        }
    }

    /// Returns true unless the endpoint is ejected or on probation.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Time at which it becomes ready; `None` unless it is open.
    pub fn ready_at(&self) -> Option<Instant> {
        match self.state {
            State::Open { until } => Some(until),
            State::Closed | State::Probing => None,
        }
    }

    /// Takes a ticket for one request; `None` while the endpoint is ejected. After the backoff exactly one is issued.
    pub fn admit(&mut self, now: Instant) -> Option<Ticket> {
        if !self.is_ready(now) {
            return None;
        }
        if matches!(self.state, State::Open { .. }) {
            self.enter(State::Probing);
        }
        Some(Ticket {
            generation: self.generation,
        })
    }

    /// Records the end of a request. `may_eject` decides whether the endpoint can be spared, if it comes to that.
    pub fn record(
        &mut self,
        ticket: Ticket,
        report: Report,
        rng: &mut fastrand::Rng,
        may_eject: impl FnOnce() -> bool,
    ) -> Option<Change> {
        if ticket.generation != self.generation {
            return None;
        }
        let fails_probe = match report.outcome {
            Outcome::Success => false,
            Outcome::Failure => true,
            Outcome::RateLimited => self.is_unified,
        };
        match self.state {
            State::Closed => (self.count(report) && may_eject()).then(|| Change::Opened {
                wait: self.open(report, rng),
            }),
            State::Probing if fails_probe && may_eject() => Some(Change::StaysOpen {
                wait: self.open(report, rng),
            }),
            State::Probing => {
                self.openings = if fails_probe { self.openings } else { 0 };
                Some(self.close(report.now))
            }
            State::Open { .. } => None,
        }
    }

    /// Records a request that ended without an outcome, as when the client went away. The next probe may start at once.
    pub fn abandon(&mut self, ticket: Ticket, now: Instant) {
        if ticket.generation == self.generation && self.state == State::Probing {
            self.enter(State::Open { until: now });
        }
    }

    /// Readmits an endpoint that can no longer be spared. Its next ejection is as long as if it had stayed ejected.
    pub fn release(&mut self, now: Instant) -> Option<Change> {
        (!self.is_closed()).then(|| self.close(now))
    }

    /// Counts a request. Returns true if the endpoint should be ejected.
    fn count(&mut self, report: Report) -> bool {
        self.consecutive = if report.outcome == Outcome::Failure {
            self.consecutive.saturating_add(1)
        } else {
            0
        };
        if report.outcome == Outcome::Success {
            self.openings = 0;
        }
        let too_many = self.max_consecutive > 0 && self.consecutive >= self.max_consecutive;
        let is_success = report.outcome == Outcome::Success;
        let too_low = self
            .rate
            .as_mut()
            .is_some_and(|rate| rate.record(is_success, report.now));
        too_many || too_low
    }

    /// Opens for the backoff, or for as long as the endpoint asks if that is longer, up to the longest backoff.
    fn open(&mut self, report: Report, rng: &mut fastrand::Rng) -> Duration {
        let backoff = backoff::wait(&self.backoff, self.openings, rng);
        let asked = report.retry_after.filter(|_| self.honors_retry_after());
        let wait = backoff.max(asked.unwrap_or_default().min(self.backoff.max));
        self.openings = self.openings.saturating_add(1);
        self.enter(State::Open {
            until: report.now + wait,
        });
        wait
    }

    fn close(&mut self, now: Instant) -> Change {
        self.consecutive = 0;
        if let Some(rate) = &mut self.rate {
            *rate = Rate::new(rate.threshold, rate.slot * SLOTS as u32, rate.min_requests, now);
        }
        self.enter(State::Closed);
        Change::Closed
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.generation = self.generation.wrapping_add(1);
    }
}

/// Returns how many of `total` endpoints may be ejected at a time. Without a floor it is all but one of several: alone,
/// an endpoint gains nothing from requests that fail. A share is rounded down, but one endpoint may always go.
pub fn most_ejected(ejection: Ejection, total: usize) -> usize {
    let by_floor = match ejection.min_ready {
        Some(least) => total.saturating_sub(least as usize),
        None if total > 1 => total - 1,
        None => total,
    };
    match ejection.max_percent {
        None => by_floor,
        Some(0) => 0,
        Some(percent) => by_floor.min((total * percent.min(100) as usize / 100).max(1)),
    }
}

/// Success rate over a sliding window.
#[derive(Debug)]
struct Rate {
    threshold: f64,
    min_requests: u32,
    slot: Duration,
    slots: [(u32, u32); SLOTS],
    current: usize,
    slot_start: Instant,
}

impl Rate {
    fn new(threshold: f64, window: Duration, min_requests: u32, now: Instant) -> Self {
        let slot = (window / SLOTS as u32).max(Duration::from_nanos(1));
        Self {
            threshold,
            min_requests,
            slot,
            slots: [(0, 0); SLOTS],
            current: 0,
            slot_start: now,
        }
    }

    /// Counts one request. Returns true if the rate is now too low.
    fn record(&mut self, success: bool, now: Instant) -> bool {
        self.expire(now);
        let (successes, total) = &mut self.slots[self.current];
        *successes = successes.saturating_add(u32::from(success));
        *total = total.saturating_add(1);
        let sum = self.slots.iter().fold((0_u64, 0_u64), |s, (ok, all)| {
            (s.0 + u64::from(*ok), s.1 + u64::from(*all))
        });
        sum.1 >= u64::from(self.min_requests.max(1)) && (sum.0 as f64) < self.threshold * sum.1 as f64
    }

    fn expire(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.slot_start).as_nanos() / self.slot.as_nanos();
        for _ in 0..passed.min(SLOTS as u128) {
            self.current = (self.current + 1) % SLOTS;
            self.slots[self.current] = (0, 0);
        }
        if passed >= SLOTS as u128 {
            self.slot_start = now;
        } else {
            self.slot_start += self.slot * passed as u32;
        }
    }
}

#[cfg(test)]
mod tests;
