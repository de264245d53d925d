//! Asserts that a changed split takes effect quickly under load, and loses nothing.

use std::{thread, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};

use super::Check;
use cli_demo_app::now_ms;

/// Duration of the load, before and after the change together.
const LOAD_SECONDS: &str = "5";
/// Delay of the change after the start of the load.
const CHANGE: Duration = Duration::from_secs(2);

pub(super) fn split(check: &Check<'_>) -> Result<String> {
    let traffic = check.runner("traffic")?;
    let (load, changed) = thread::scope(|scope| {
        // /api/results never fails by itself, so any failure is the mesh's.
        let limits = [
            "--seconds",
            LOAD_SECONDS,
            "--requests",
            "100000",
            "--rps",
            "400",
            "--connections",
            "8",
        ];
        let load = scope.spawn(move || traffic.load("/api/results", &limits));
        thread::sleep(CHANGE);
        let changed = now_ms();
        let written = check.manifests.set_weights(0, 100);
        (
            load.join().map_err(|_| anyhow!("the load panicked")),
            written.map(|()| changed),
        )
    });
    let (load, changed) = (load??, changed?);
    ensure!(
        load.total.failures == 0,
        "{} of {} requests failed: {}",
        load.total.failures,
        load.total.requests,
        load.first_error.as_deref().unwrap_or("status 500 or higher")
    );
    let last = |version: &str| load.versions.get(version).map(|counts| counts.last_began_ms);
    let v1 = last("v1").context("v1 got no requests before the change")?;
    let v2 = last("v2").context("v2 got no requests")?;
    ensure!(v2 > changed + 1000, "the load ended too early");
    ensure!(
        v1 < changed + 1000,
        "v1 still got requests {} ms after the change",
        v1 - changed
    );
    let took = v1.saturating_sub(changed);
    Ok(format!(
        "0/100 after {took} ms, {} requests, none failed",
        load.total.requests
    ))
}
