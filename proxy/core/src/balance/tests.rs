//! Tests of the balancer: peaks count at once, estimates decay, choices prefer the cheaper and skip the unready.

use super::*;

const MS: Duration = Duration::from_millis(1);

/// Cost of choosing it, in nanoseconds.
fn load(ewma: &PeakEwma, now: Instant) -> f64 {
    let cost = ewma.cost(now);
    cost.estimate_ns * cost.requests
}

fn cost(estimate_ns: f64) -> Cost {
    Cost {
        estimate_ns,
        requests: 1.0,
        known: true,
    }
}

#[test]
fn peaks_count_at_once_and_decay() {
    let start = Instant::now();
    let ewma = PeakEwma::new(DEFAULT, start);
    assert_eq!(load(&ewma, start), 30e6);
    ewma.record(100 * MS, start);
    assert_eq!(load(&ewma, start), 100e6);
    // After one decay time of fast answers, 1/e of the peak is left.
    ewma.record(MS, start + Duration::from_secs(10));
    let left = load(&ewma, start + Duration::from_secs(10));
    assert!((left - (1e6 + 99e6 / std::f64::consts::E)).abs() < 1e3, "{left}");
    assert!(
        load(&ewma, start + Duration::from_secs(60)) < left / 100.0,
        "an idle endpoint is tried again"
    );
}

#[test]
fn requests_in_flight_multiply_the_cost() {
    let now = Instant::now();
    let ewma = PeakEwma::new(DEFAULT, now);
    ewma.begin();
    ewma.begin();
    assert_eq!(load(&ewma, now), 90e6);
    ewma.end();
    assert_eq!((ewma.pending(), load(&ewma, now)), (1, 60e6));
}

#[test]
fn tolerates_a_clock_that_stands_still_or_goes_back() {
    let start = Instant::now();
    let now = start + Duration::from_secs(100);
    let ewma = PeakEwma::new(
        Params {
            default_rtt: Duration::ZERO,
            decay: Duration::ZERO,
        },
        now,
    );
    ewma.record(MS, start + Duration::from_secs(50));
    assert!(load(&ewma, start).is_finite());
    assert!(load(&ewma, now) > 0.0);
}

#[test]
fn two_choices_prefer_the_cheaper() {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut hits = [0; 4];
    for _ in 0..10_000 {
        hits[p2c(4, &mut rng, |i| Some(cost(i as f64))).expect("ready")] += 1;
    }
    // With distinct draws the most expensive never wins; the cheapest wins whenever it is drawn (half of the pairs).
    assert_eq!(hits[3], 0);
    assert!((4_800..5_200).contains(&hits[0]), "{hits:?}");
}

#[test]
fn does_not_starve_a_new_endpoint_while_its_default_decays() {
    let now = Instant::now();
    let (old, new) = (PeakEwma::new(DEFAULT, now), PeakEwma::new(DEFAULT, now));
    old.record(MS, now + Duration::from_secs(1));
    let mut rng = fastrand::Rng::with_seed(7);
    let mut new_hits = 0;
    for _ in 0..1_000 {
        let picked = p2c(2, &mut rng, |i| {
            Some([&old, &new][i].cost(now + Duration::from_secs(1)))
        });
        new_hits += picked.expect("ready");
    }
    assert!((400..600).contains(&new_hits), "{new_hits}");
    // But before its first answer it does not get every request.
    new.begin();
    let busy = p2c(2, &mut rng, |i| {
        Some([&old, &new][i].cost(now + Duration::from_secs(1)))
    });
    assert_eq!(busy, Some(0));
}

#[test]
fn never_picks_an_unready_endpoint() {
    let mut rng = fastrand::Rng::with_seed(7);
    assert_eq!(p2c(0, &mut rng, |_| Some(cost(1.0))), None);
    assert_eq!(p2c(1, &mut rng, |_| None), None);
    for _ in 0..1_000 {
        assert_eq!(p2c(50, &mut rng, |i| (i == 17).then_some(cost(1.0))), Some(17));
        assert_eq!(p2c(50, &mut rng, |_| None), None);
    }
}

#[test]
fn an_exchange_without_an_answer_makes_an_endpoint_dearer_alone() {
    let now = Instant::now();
    let ewma = PeakEwma::new(DEFAULT, now);
    ewma.unanswered(MS / 2, now);
    assert!(!ewma.cost(now).known, "a glimpse");
    ewma.unanswered(10 * MS, now);
    assert_eq!((load(&ewma, now), ewma.cost(now).known), (10e6, true));
    ewma.unanswered(5 * MS, now);
    assert_eq!(load(&ewma, now), 10e6, "it may have taken longer");
    ewma.unanswered(1000 * MS, now);
    assert_eq!(load(&ewma, now), 1e9);
    let fast = PeakEwma::new(DEFAULT, now);
    fast.record(MS, now);
    let later = now + Duration::from_secs(30);
    assert!(!ewma.cost(later).is_less(&fast.cost(later)), "dear for long");
}

#[test]
fn penalties_follow_status_and_are_never_cheaper_than_the_policy_or_the_present() {
    let second = Duration::from_secs(1);
    let biased = Load::PenaltyPeakEwma {
        ewma: DEFAULT,
        penalty: None,
        max_retry_after: None,
        penalty_decay: None,
    };
    let of = |load: &Load, status: u16, headers: &[(&'static str, &str)]| {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().expect("value"));
        }
        let status = StatusCode::from_u16(status).expect("valid");
        penalty(load, status, &map, SystemTime::UNIX_EPOCH)
    };
    let base = Some(defaults::FAILURE_PENALTY);
    assert_eq!(of(&biased, 200, &[("retry-after", "7")]), None);
    assert_eq!(of(&biased, 503, &[]), base);
    for (status, hint, wait) in [
        (429, "7", 7 * second),
        (429, "100000", defaults::MAX_RETRY_AFTER),
        (503, "0", defaults::FAILURE_PENALTY),
        (500, "7", defaults::FAILURE_PENALTY),
    ] {
        assert_eq!(
            of(&biased, status, &[("retry-after", hint)]),
            Some(wait),
            "{status} {hint}"
        );
    }
    let grpc = ("content-type", "application/grpc");
    let hint = ("grpc-retry-pushback-ms", "9000");
    assert_eq!(of(&biased, 200, &[grpc, ("grpc-status", "8"), hint]), Some(9 * second));
    assert_eq!(of(&biased, 200, &[grpc, ("grpc-status", "13"), hint]), base);
    assert_eq!(of(&biased, 200, &[grpc, ("grpc-status", "5"), hint]), None);
    assert_eq!(of(&Load::PeakEwma(DEFAULT), 503, &[]), None);

    let now = Instant::now();
    let ewma = PeakEwma::new(DEFAULT, now);
    ewma.record(10 * second, now);
    ewma.penalize(5 * second, now);
    assert_eq!(load(&ewma, now), 10e9);
}
