//! A changed split, under load: how long until nothing goes to the old version, and whether anything is lost.

use std::{thread, time::Duration};

use anyhow::{Context, anyhow, ensure};

use super::{Check, Proof};
use cli_demo_app::now_ms;

/// How long the load runs before and after the change, in all.
const LOAD_SECONDS: &str = "5";
/// When the split is changed, after the load has begun.
const CHANGE: Duration = Duration::from_secs(2);

pub(super) fn split(check: &Check<'_>) -> Proof {
    let traffic = check.stage("traffic")?;
    let (load, changed) = thread::scope(|scope| {
        // The results never fail by themselves: whatever fails here, the mesh has lost.
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
        load.first_error.as_deref().unwrap_or("a status from 500 on")
    );
    let last = |version: &str| load.versions.get(version).map(|counts| counts.last_began_ms);
    let v1 = last("v1").context("nothing went to v1 before the change")?;
    let v2 = last("v2").context("nothing went to v2")?;
    ensure!(v2 > changed + 1000, "the load ended too early to tell");
    ensure!(
        v1 < changed + 1000,
        "v1 still had requests {} ms after the change",
        v1 - changed
    );
    let took = v1.saturating_sub(changed);
    Ok(format!(
        "0/100 after {took} ms, {} requests, none failed",
        load.total.requests
    ))
}
