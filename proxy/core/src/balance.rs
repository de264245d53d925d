//! Load of an endpoint, and the better of two random choices.
//!
//! Peak EWMA: a slow answer counts at once, fast answers gradually over the decay time; the estimate decays while
//! nothing is observed. It is multiplied by the number of requests in flight. An endpoint that has not answered yet is
//! assumed to be at least as fast as the one it is compared with: otherwise, where answers are faster than the default
//! estimate (30 ms), a new endpoint would stay idle until the default has decayed, for half a minute.

use std::{
    cell::Cell,
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderMap, StatusCode};
use proxy_model::{
    defaults,
    outbound::{Load, PeakEwma as Params},
};

use crate::retry_after;

/// Default parameters; upstream's figures.
pub const DEFAULT: Params = Params {
    default_rtt: Duration::from_millis(30),
    decay: defaults::LOAD_DECAY,
};

/// Lower bound of a new endpoint's estimate, so that none is free.
const MIN_RTT: Duration = Duration::from_millis(1);

/// Load estimate of one endpoint, as one worker observes it. Shared by the requests of a thread.
#[derive(Debug)]
pub struct PeakEwma {
    estimate_ns: Cell<f64>,
    observed: Cell<Instant>,
    pending: Cell<u32>,
    known: Cell<bool>,
    decay_ns: f64,
}

/// Cost of choosing an endpoint.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Cost {
    /// Estimated response time, in nanoseconds.
    pub estimate_ns: f64,
    /// Requests in flight, plus the next one.
    pub requests: f64,
    /// True if the estimate comes from an answer, false for the default.
    pub known: bool,
}

impl Cost {
    /// Returns true if this endpoint is cheaper than `other`.
    fn is_less(&self, other: &Self) -> bool {
        let (mut this, mut that) = (self.estimate_ns, other.estimate_ns);
        match (self.known, other.known) {
            (false, true) => this = this.min(that),
            (true, false) => that = that.min(this),
            _ => {}
        }
        this * self.requests < that * other.requests
    }
}

impl PeakEwma {
    /// Creates the estimate of a new endpoint.
    pub fn new(params: Params, now: Instant) -> Self {
        Self {
            estimate_ns: Cell::new(params.default_rtt.max(MIN_RTT).as_nanos() as f64),
            observed: Cell::new(now),
            pending: Cell::new(0),
            known: Cell::new(false),
            decay_ns: (params.decay.as_nanos() as f64).max(1.0),
        }
    }

    /// Counts a request (or connection) as in flight. Each `begin` needs one [`PeakEwma::end`].
    pub fn begin(&self) {
        self.pending.set(self.pending.get().saturating_add(1));
    }

    /// Counts the end of a request, however it ended.
    pub fn end(&self) {
        self.pending.set(self.pending.get().saturating_sub(1));
    }

    /// Returns the number of requests in flight.
    #[cfg(test)]
    fn pending(&self) -> u32 {
        self.pending.get()
    }

    /// Records an answer that took `rtt`.
    pub fn record(&self, rtt: Duration, now: Instant) {
        let rtt = nanos(rtt);
        // The first answer replaces the default.
        let faded = if self.known.get() {
            self.estimate_at(now, rtt)
        } else {
            rtt
        };
        self.estimate_ns.set(faded);
        self.known.set(true);
        self.observed.set(now.max(self.observed.get()));
    }

    /// Records an answer that reported overload, as one that took `penalty`: never cheaper than now.
    pub fn penalize(&self, penalty: Duration, now: Instant) {
        if nanos(penalty) >= self.estimate_at(now, 0.0) {
            self.record(penalty, now);
        }
    }

    /// Records an exchange that ended after `elapsed` without an answer. The answer would have taken longer, so this
    /// can make the endpoint dearer, never cheaper. Of an endpoint without any answer so far, a glimpse says nothing.
    pub fn unanswered(&self, elapsed: Duration, now: Instant) {
        let least = if self.known.get() {
            self.estimate_at(now, 0.0)
        } else {
            nanos(MIN_RTT)
        };
        if nanos(elapsed) >= least {
            self.record(elapsed, now);
        }
    }

    /// Returns the cost of choosing this endpoint.
    pub fn cost(&self, now: Instant) -> Cost {
        Cost {
            estimate_ns: self.estimate_at(now, 0.0),
            requests: f64::from(self.pending.get()) + 1.0,
            known: self.known.get(),
        }
    }

    fn estimate_at(&self, now: Instant, rtt: f64) -> f64 {
        let estimate = self.estimate_ns.get();
        if rtt >= estimate {
            return rtt;
        }
        let age = nanos(now.saturating_duration_since(self.observed.get()));
        let kept = (-age / self.decay_ns).exp();
        rtt + (estimate - rtt) * kept
    }
}

/// Nanoseconds, without the slow 128-bit arithmetic of `as_nanos`.
fn nanos(time: Duration) -> f64 {
    time.as_secs() as f64 * 1e9 + f64::from(time.subsec_nanos())
}

/// Returns the better of two distinct random choices of `0..n`. `cost` is `None` for one that is not ready; if neither
/// is ready, compares the first two ready ones from a random start. `None` when none is ready.
pub fn p2c(n: usize, rng: &mut fastrand::Rng, mut cost: impl FnMut(usize) -> Option<Cost>) -> Option<usize> {
    match n {
        0 => return None,
        1 => return cost(0).map(|_| 0),
        _ => {}
    }
    let first = rng.usize(..n);
    let second = (first + 1 + rng.usize(..n - 1)) % n;
    match (cost(first), cost(second)) {
        (Some(a), Some(b)) => Some(if b.is_less(&a) { second } else { first }),
        (Some(_), None) => Some(first),
        (None, Some(_)) => Some(second),
        (None, None) => scan(n, first, cost),
    }
}

fn scan(n: usize, start: usize, mut cost: impl FnMut(usize) -> Option<Cost>) -> Option<usize> {
    let mut ready = (0..n)
        .map(|i| (start + i) % n)
        .filter_map(|i| cost(i).map(|cost| (i, cost)));
    let (first, cost) = ready.next()?;
    match ready.next() {
        Some((second, other)) if other.is_less(&cost) => Some(second),
        _ => Some(first),
    }
}

/// Returns the parameters of the estimate.
pub fn params(load: &Load) -> Params {
    match load {
        Load::PeakEwma(ewma) | Load::PenaltyPeakEwma { ewma, .. } => *ewma,
    }
}

/// Returns the penalty for a response with this head, to pass to [`PeakEwma::penalize`]: that of the policy, or what
/// the response asks for if that is longer. A response that asks for less would otherwise draw requests to a failing
/// endpoint.
pub fn penalty(load: &Load, status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let Load::PenaltyPeakEwma {
        penalty,
        max_retry_after,
        ..
    } = load
    else {
        return None;
    };
    let is_failure = match retry_after::grpc_status(status, headers) {
        Some(code) => matches!(code, 2 | 4 | 8 | 13 | 14 | 15),
        None => status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error(),
    };
    if !is_failure {
        return None;
    }
    let most = max_retry_after.unwrap_or(defaults::MAX_RETRY_AFTER);
    let hint = retry_after::hint(status, headers, now).map(|hint| hint.min(most));
    Some(
        penalty
            .unwrap_or(defaults::FAILURE_PENALTY)
            .max(hint.unwrap_or_default()),
    )
}

#[cfg(test)]
mod tests;
