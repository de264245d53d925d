//! Asserts that no plaintext leaves a pod, by a capture in the pod of web: `eth0` leads to all other pods, and `lo`
//! connects web and its proxy.

use std::{thread, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};

use super::Check;
use cli_demo_app::{CaptureReport, Captured};

/// Interface to other pods.
const WIRE: &str = "eth0";
/// Interface between a proxy and its application.
const INSIDE: &str = "lo";
/// Requests that carry the marker.
const REQUESTS: u64 = 200;

pub(super) fn nothing_readable(check: &Check<'_>) -> Result<String> {
    let marker = format!("readable-{:016x}-{:016x}", fastrand::u64(..), fastrand::u64(..));
    let (web, traffic) = (check.runner("web")?, check.runner("traffic")?);
    let (captured, load) = thread::scope(|scope| {
        let flags = ["capture", "--marker", &marker, "--seconds", "4"];
        let capture = scope.spawn(move || web.run::<CaptureReport>(&flags));
        // The capture takes a moment to start; the load lasts longer than that.
        thread::sleep(Duration::from_millis(500));
        let count = REQUESTS.to_string();
        let flags = [
            "--requests",
            &count,
            "--rps",
            "100",
            "--connections",
            "4",
            "--body",
            &marker,
        ];
        let load = traffic.load("/api/vote?choice=:taco:", &flags);
        (capture.join().map_err(|_| anyhow!("the capture panicked")), load)
    });
    let (captured, load) = (captured??, load?);
    ensure!(load.unanswered == 0, "{} requests got no response", load.unanswered);
    let on = |name: &str| {
        captured
            .get(name)
            .cloned()
            .with_context(|| format!("nothing was captured on {name}"))
    };
    let (wire, inside): (Captured, Captured) = (on(WIRE)?, on(INSIDE)?);
    let sent = REQUESTS * marker.len() as u64;
    ensure!(
        inside.marked > 0,
        "the marker was not even seen between web and its proxy, so the capture proves nothing"
    );
    ensure!(
        wire.bytes > sent,
        "only {} bytes passed on {WIRE}, fewer than were sent",
        wire.bytes
    );
    ensure!(
        wire.marked == 0,
        "{} of {} packets on {WIRE} contain the marker in plaintext",
        wire.marked,
        wire.packets
    );
    Ok(format!(
        "{} packets ({} bytes) between pods, none with the marker; {} of {} between web and its proxy contain it",
        wire.packets, wire.bytes, inside.marked, inside.packets
    ))
}
