//! A capture in the pod of web: its `eth0` is the wire to all other pods, its `lo` is where web and its proxy talk.

use std::{thread, time::Duration};

use anyhow::{Context, anyhow, ensure};

use super::{Check, Proof};
use cli_demo_app::{CaptureReport, Captured};

/// The interface to other pods.
const WIRE: &str = "eth0";
/// The interface between a proxy and its application.
const INSIDE: &str = "lo";
/// Requests that carry the text.
const REQUESTS: u64 = 200;

pub(super) fn nothing_readable(check: &Check<'_>) -> Proof {
    let marker = format!("readable-{:016x}-{:016x}", fastrand::u64(..), fastrand::u64(..));
    let (web, traffic) = (check.stage("web")?, check.stage("traffic")?);
    let (captured, load) = thread::scope(|scope| {
        let flags = ["capture", "--marker", &marker, "--seconds", "4"];
        let capture = scope.spawn(move || web.play::<CaptureReport>(&flags));
        // The capture takes a moment to begin; the load goes on for longer than that.
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
    ensure!(load.unanswered == 0, "{} requests had no answer", load.unanswered);
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
        "the text was not even seen between web and its proxy, so the capture proves nothing"
    );
    ensure!(
        wire.bytes > sent,
        "only {} bytes passed on {WIRE}, fewer than were sent",
        wire.bytes
    );
    ensure!(
        wire.marked == 0,
        "{} of {} packets on {WIRE} have the text in plain",
        wire.marked,
        wire.packets
    );
    Ok(format!(
        "{} packets ({} bytes) between pods, none with the text; it is in {} of {} between web and its proxy",
        wire.packets, wire.bytes, inside.marked, inside.packets
    ))
}
