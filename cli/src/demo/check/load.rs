//! Fixed load: each request votes, so it goes from traffic to web, from web to emoji, and from web to one of the two
//! versions of voting.

use anyhow::{Result, ensure};

use super::{
    Check,
    counters::{Counters, stat, stat_after},
};
use cli_demo_app::LoadReport;

use crate::demo::manifests::WEIGHTS;

/// The second version of voting fails every fourth request.
const FAIL_EVERY: u64 = 4;
/// Path of each request.
const VOTE: &str = "/api/vote?choice=:crab:";
/// Connections of the load.
const CONNECTIONS: &str = "16";

/// Result of the load, and counters before it.
pub(super) struct Load {
    warm: LoadReport,
    pub(super) report: LoadReport,
    pub(super) before: Counters,
    pub(super) stat_before: (u64, u64),
}

/// Runs the load.
pub(super) fn drive(check: &Check<'_>) -> Result<Load> {
    let cold = stat(check)?;
    // Warm up connections to all pods: while one version has none, its share goes to the other, as it should.
    let warm = check.load(VOTE, &["--requests", "200", "--connections", CONNECTIONS])?;
    let (successes, failures) = (warm.total.requests - warm.total.failures, warm.total.failures);
    let stat_before = stat_after(check, (cold.0 + successes, cold.1 + failures))?;
    let before = Counters::scrape(check)?;
    let requests = check.requests.to_string();
    let report = check.load(VOTE, &["--requests", &requests, "--connections", CONNECTIONS])?;
    Ok(Load {
        warm,
        report,
        before,
        stat_before,
    })
}

/// Asserts that no request is lost, and exactly every fourth of the second version fails.
pub(super) fn answered(load: &Load) -> Result<String> {
    let LoadReport {
        total,
        unanswered,
        first_error,
        ..
    } = &load.report;
    ensure!(
        *unanswered == 0,
        "{unanswered} of {} got no response: {}",
        total.requests,
        first_error.as_deref().unwrap_or("")
    );
    let v2 = |report: &LoadReport| report.versions.get("v2").map_or(0, |counts| counts.requests);
    // The version counts from its start.
    let expected = (v2(&load.warm) + v2(&load.report)) / FAIL_EVERY - v2(&load.warm) / FAIL_EVERY;
    ensure!(
        total.failures == expected,
        "{} failed instead of {expected}",
        total.failures
    );
    Ok(format!(
        "{} requests in {:.1}s ({:.0}/s, p50 {:.1}ms, p99 {:.1}ms), {} failed by the application itself",
        total.requests,
        load.report.seconds,
        total.requests as f64 / load.report.seconds,
        load.report.p50_us as f64 / 1000.0,
        load.report.p99_us as f64 / 1000.0,
        total.failures
    ))
}

/// Asserts that each version gets its share.
pub(super) fn split(load: &Load) -> Result<String> {
    let requests = |version: &str| load.report.versions.get(version).map_or(0, |counts| counts.requests);
    let (v1, v2) = (requests("v1"), requests("v2"));
    ensure!(
        v1 + v2 == load.report.total.requests,
        "only {} of {} responses name their version",
        v1 + v2,
        load.report.total.requests
    );
    let share = 100.0 * v2 as f64 / (v1 + v2) as f64;
    let expected = 100.0 * f64::from(WEIGHTS.1) / f64::from(WEIGHTS.0 + WEIGHTS.1);
    ensure!(
        (share - expected).abs() <= 1.5,
        "v1 {v1}, v2 {v2}: {share:.2}% instead of {expected:.0}%"
    );
    Ok(format!("v1 {v1}, v2 {v2} ({share:.2}%)"))
}
