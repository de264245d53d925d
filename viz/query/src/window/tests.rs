//! Limits and gaps of a window.

use super::*;
use crate::stat::tests::pod;

fn scrape(n: u64) -> String {
    format!("response_total{{direction=\"inbound\"}} {n}\ntcp_read_bytes_total{{peer=\"src\"}} {n}\n")
}

fn gained(window: &Window, window_ms: u64) -> f64 {
    window
        .views(window_ms)
        .flat_map(|v| v.increases(Family::ResponseTotal))
        .map(|(_, n)| n)
        .sum()
}

#[test]
fn old_samples_expire_and_increases_stay_exact() {
    let mut window = Window::new(Limits {
        window_ms: 5_000,
        ..Limits::default()
    });
    let web = pod("vote", "web", true);
    (0..100).for_each(|n| window.observe(&web, n * 1000, &scrape(n * 10)));
    assert_eq!(gained(&window, 3_000), 30.0);
    assert_eq!(gained(&window, 60_000), 50.0);
    assert_eq!(window.source(99_500, 60_000).covered_ms, 5_000);
    assert_eq!(window.source(99_500, 60_000).age_ms, Some(500));
}

#[test]
fn later_series_starts_at_zero() {
    let mut window = Window::new(Limits::default());
    let web = pod("vote", "web", true);
    window.observe(&web, 0, "other 1\n");
    window.observe(&web, 1_000, &scrape(7));
    assert_eq!(gained(&window, 60_000), 7.0);
}

#[test]
fn detects_a_restart_by_the_start_time() {
    let mut window = Window::new(Limits::default());
    let web = pod("vote", "web", true);
    let text = |start: u64, n: u64| format!("{}process_start_time_seconds {start}\n", scrape(n));
    window.observe(&web, 0, &text(1, 10));
    window.observe(&web, 1_000, &text(2, 25));
    assert_eq!(
        gained(&window, 60_000),
        25.0,
        "a new process that has already counted more than the old one"
    );
}

#[test]
fn limits_drop_and_count() {
    let mut window = Window::new(Limits {
        pods: 1,
        series_per_pod: 1,
        ..Limits::default()
    });
    window.observe(&pod("vote", "web", true), 0, &scrape(1));
    assert_eq!(window.refused(), 1, "the second series");
    window.observe(&pod("vote", "emoji", true), 0, &scrape(1));
    assert_eq!(window.refused(), 2, "the second pod");
}

#[test]
fn too_many_points_shorten_the_covered_time() {
    let mut window = Window::new(Limits {
        points: 64,
        ..Limits::default()
    });
    let web = pod("vote", "web", true);
    (0..200).for_each(|n| window.observe(&web, n * 1000, &scrape(n)));
    let covered = window.source(200_000, 600_000).covered_ms;
    assert!((5_000..40_000).contains(&covered), "{covered}");
    assert_eq!(gained(&window, 600_000) as u64 * 1000, covered);
}

#[test]
fn gap_as_long_as_the_window_starts_over() {
    let mut window = Window::new(Limits {
        window_ms: 5_000,
        ..Limits::default()
    });
    let web = pod("vote", "web", true);
    window.observe(&web, 0, &scrape(10));
    window.observe(&web, 60_000, &scrape(5000));
    assert_eq!(gained(&window, 5_000), 0.0);
    window.observe(&web, 61_000, &scrape(5001));
    assert_eq!(gained(&window, 5_000), 1.0);
}

#[test]
fn deleted_pod_keeps_its_samples_until_they_expire() {
    let mut window = Window::new(Limits {
        window_ms: 5_000,
        ..Limits::default()
    });
    let web = pod("vote", "web", true);
    window.observe(&web, 0, &scrape(0));
    window.observe(&web, 1_000, &scrape(10));
    window.retain(&Objects::default(), 2_000);
    assert_eq!(gained(&window, 5_000), 10.0);
    window.retain(&Objects::default(), 10_000);
    assert_eq!(gained(&window, 5_000), 0.0);
}

#[test]
fn old_scrapes_are_thinned_and_rates_stay_exact() {
    let mut window = Window::new(Limits::default());
    let web = pod("vote", "web", true);
    (0..900).for_each(|n| window.observe(&web, n * 1000, &scrape(n * 10)));
    assert_eq!(gained(&window, 30_000), 300.0);
    let view = window.views(300_000).next().expect("a view");
    let covered = view.covered_ms();
    assert!((300_000..=300_000 + 2 * COARSE_MS).contains(&covered), "{covered}");
    assert_eq!(gained(&window, 300_000), covered as f64 / 100.0);
    let data = window.pods.values().next().expect("a pod");
    assert!(data.points < 2 * 200, "{} of 1200 points", data.points);
}

#[test]
fn buckets_share_their_labels() {
    let mut window = Window::new(Limits::default());
    let web = pod("vote", "web", true);
    let bucket =
        |le: &str| format!("response_latency_ms_bucket{{direction=\"inbound\",status_code=\"200\",le=\"{le}\"}} 1\n");
    window.observe(&web, 0, &["1", "2", "+Inf"].map(bucket).concat());
    let series = &window.pods.values().next().expect("a pod").series;
    let mut bounds: Vec<_> = series.values().map(|series| series.labels.get("le")).collect();
    bounds.sort_unstable();
    assert_eq!(bounds, ["+Inf", "1", "2"]);
    assert!(
        series.values().all(|series| series.labels.shared() == 4),
        "three, and the interner"
    );
}
