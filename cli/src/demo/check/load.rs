//! The fixed load: each request votes, so it goes from traffic to web, from web to emoji, and from web to one of the two
//! versions of voting.

use anyhow::{Result, ensure};

use super::{
    Check, Proof,
    counters::{Counters, stat},
};
use crate::demo::{app::LoadReport, manifests::WEIGHTS};

/// What voting's second version fails: each fourth.
const FAIL_EVERY: u64 = 4;

/// The load, and what was counted before it.
pub(super) struct Load {
    pub(super) report: LoadReport,
    pub(super) before: Counters,
    pub(super) stat_before: (u64, u64),
}

/// Drives it.
pub(super) fn drive(check: &Check<'_>) -> Result<Load> {
    // A path of its own, so that connections stand and nothing is counted that the load does not count.
    check.load("/api/list", &["--requests", "50", "--connections", "16"])?;
    let before = Counters::scrape(check)?;
    let stat_before = stat(check)?;
    let requests = check.requests.to_string();
    let report = check.load(
        "/api/vote?choice=:crab:",
        &["--requests", &requests, "--connections", "16"],
    )?;
    Ok(Load {
        report,
        before,
        stat_before,
    })
}

/// No request is lost, and exactly each fourth one of the second version fails.
pub(super) fn answered(load: &Load) -> Proof {
    let LoadReport {
        total,
        unanswered,
        first_error,
        ..
    } = &load.report;
    ensure!(
        *unanswered == 0,
        "{unanswered} of {} had no answer: {}",
        total.requests,
        first_error.as_deref().unwrap_or("")
    );
    let v2 = load.report.versions.get("v2").map_or(0, |counts| counts.requests);
    let due = v2 / FAIL_EVERY;
    ensure!(
        total.failures == due,
        "{} failed, but the second version failed {due}",
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

/// Each version has its share.
pub(super) fn split(load: &Load) -> Proof {
    let requests = |version: &str| load.report.versions.get(version).map_or(0, |counts| counts.requests);
    let (v1, v2) = (requests("v1"), requests("v2"));
    ensure!(
        v1 + v2 == load.report.total.requests,
        "only {} of {} say their version",
        v1 + v2,
        load.report.total.requests
    );
    let share = 100.0 * v2 as f64 / (v1 + v2) as f64;
    let due = 100.0 * f64::from(WEIGHTS.1) / f64::from(WEIGHTS.0 + WEIGHTS.1);
    ensure!(
        (share - due).abs() <= 1.5,
        "v1 {v1}, v2 {v2}: {share:.2}% instead of {due:.0}%"
    );
    Ok(format!("v1 {v1}, v2 {v2} ({share:.2}%)"))
}
