//! Exponential backoff between connects, retries, and probes of a breaker.

use std::time::Duration;

use proxy_model::route::Backoff;

/// Backoff between connects to the control plane and to endpoints; upstream's figures.
pub const CONNECT: Backoff = Backoff {
    min: Duration::from_millis(100),
    max: Duration::from_secs(60),
    jitter: 0.1,
    respect_retry_after_hint: false,
};

/// Returns the wait before attempt `attempt` (from 0): `min` doubled `attempt` times, at most `max`, plus a random
/// share of it up to `jitter`.
pub fn wait(backoff: &Backoff, attempt: u32, rng: &mut fastrand::Rng) -> Duration {
    let doubled = backoff.min.checked_mul(1 << attempt.min(31)).unwrap_or(backoff.max);
    let base = doubled.min(backoff.max);
    if backoff.jitter <= 0.0 || !backoff.jitter.is_finite() {
        return base;
    }
    let extra = base.as_secs_f64() * f64::from(backoff.jitter) * rng.f64();
    base.checked_add(Duration::try_from_secs_f64(extra).unwrap_or_default())
        .unwrap_or(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_jitter_adds() {
        let mut rng = fastrand::Rng::with_seed(1);
        let plain = Backoff { jitter: 0.0, ..CONNECT };
        assert_eq!(wait(&plain, 0, &mut rng), Duration::from_millis(100));
        assert_eq!(wait(&plain, 3, &mut rng), Duration::from_millis(800));
        assert_eq!(wait(&plain, 4_000_000, &mut rng), Duration::from_secs(60));
        for attempt in 0..100 {
            let jittered = wait(&CONNECT, attempt, &mut rng);
            let base = wait(&plain, attempt, &mut rng);
            assert!(
                jittered >= base && jittered <= base.mul_f64(1.101),
                "{jittered:?} beside {base:?}"
            );
        }
    }
}
