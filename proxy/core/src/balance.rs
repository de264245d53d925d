//! Load of an endpoint, and the better of two drawn by chance.
//!
//! Peak EWMA: a slow answer counts at once, fast answers only bit by bit over the decay time; what was estimated fades
//! while nothing is observed. The estimate is multiplied by the requests under way. An endpoint that has not answered yet
//! is taken for no slower than the one it is compared with: otherwise, where answers are faster than the default estimate
//! (30 ms), a new endpoint would stand idle until that has faded, for half a minute.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use http::{HeaderMap, StatusCode};
use proxy_model::outbound::{Load, PeakEwma as Params};

/// Upstream's figures, used where the control plane says nothing.
pub const DEFAULT: Params = Params {
    default_rtt: Duration::from_millis(30),
    decay: Duration::from_secs(10),
};
/// Penalty where the control plane says none; upstream's figure.
pub const DEFAULT_PENALTY: Duration = Duration::from_secs(5);
/// Largest `retry-after` that counts where the control plane says none; upstream's figure.
pub const DEFAULT_MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Floor of a new endpoint's estimate, so that nothing is free.
const MIN_RTT: Duration = Duration::from_millis(1);

/// What one endpoint costs, as this worker saw it. Kept by one thread, shared by its requests.
#[derive(Debug)]
pub struct PeakEwma {
    estimate_ns: Cell<f64>,
    observed: Cell<Instant>,
    pending: Cell<u32>,
    known: Cell<bool>,
    decay_ns: f64,
}

/// What choosing an endpoint would cost, as far as is known.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Cost {
    /// Estimate of one answer, in nanoseconds.
    pub estimate_ns: f64,
    /// Requests under way, and the one to come.
    pub requests: f64,
    /// Whether the estimate comes from an answer, or is the default.
    pub known: bool,
}

impl Cost {
    /// Whether choosing this one is cheaper than choosing `other`.
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
    /// An endpoint of which nothing is known yet.
    pub fn new(params: Params, now: Instant) -> Self {
        Self {
            estimate_ns: Cell::new(params.default_rtt.max(MIN_RTT).as_nanos() as f64),
            observed: Cell::new(now),
            pending: Cell::new(0),
            known: Cell::new(false),
            decay_ns: (params.decay.as_nanos() as f64).max(1.0),
        }
    }

    /// A request (or connection) goes there now. Each `begin` needs one [`PeakEwma::end`].
    pub fn begin(&self) {
        self.pending.set(self.pending.get().saturating_add(1));
    }

    /// A request is over, however it ended.
    pub fn end(&self) {
        self.pending.set(self.pending.get().saturating_sub(1));
    }

    /// Requests under way.
    pub fn pending(&self) -> u32 {
        self.pending.get()
    }

    /// An answer took `rtt`.
    pub fn record(&self, rtt: Duration, now: Instant) {
        let rtt = nanos(rtt);
        // The first answer replaces the default; it says more than a guess.
        let faded = if self.known.get() {
            self.estimate_at(now, rtt)
        } else {
            rtt
        };
        self.estimate_ns.set(faded);
        self.known.set(true);
        self.observed.set(now.max(self.observed.get()));
    }

    /// An answer said "too much": it counts as one that took `penalty`.
    pub fn penalize(&self, penalty: Duration, now: Instant) {
        self.record(penalty, now);
    }

    /// What choosing it would cost.
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

/// Nanoseconds; without the 128 bits of `as_nanos`, which no processor has.
fn nanos(time: Duration) -> f64 {
    time.as_secs() as f64 * 1e9 + f64::from(time.subsec_nanos())
}

/// The better of two of `0..n` that differ, drawn by chance. `cost` is `None` for one that is not ready; when both drawn
/// are not, the first two ready ones from a place drawn by chance are compared. `None` when none is ready.
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

/// The parameters of the estimate.
pub fn params(load: &Load) -> Params {
    match load {
        Load::PeakEwma(ewma) | Load::PenaltyPeakEwma { ewma, .. } => *ewma,
    }
}

/// What to [`PeakEwma::penalize`] an endpoint with for a response with this head; none for most.
pub fn penalty(load: &Load, status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let Load::PenaltyPeakEwma {
        penalty,
        max_retry_after,
        ..
    } = load
    else {
        return None;
    };
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let hint = if matches!(number("grpc-status"), Some(2 | 4 | 8 | 13 | 14 | 15)) {
        number("grpc-retry-pushback-ms").map(Duration::from_millis)
    } else if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
        number("retry-after").map(Duration::from_secs)
    } else {
        return None;
    };
    let most = max_retry_after.unwrap_or(DEFAULT_MAX_RETRY_AFTER);
    Some(hint.map_or_else(|| penalty.unwrap_or(DEFAULT_PENALTY), |wait| wait.min(most)))
}

#[cfg(test)]
mod tests;
