//! Load and attacks together for a long time: memory must not grow, good clients must not fail, nothing may panic.

use std::{
    cell::Cell,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tests_harness::{client::Client, namespaces, process::Usage};
use tokio::{
    task::LocalSet,
    time::{interval, sleep},
};

use crate::{
    attacks,
    good::Asked,
    programs::{Programs, World},
    suite::{self, Attack},
    target::{Listener, Target},
};

/// Programs, by a listener of each.
const PROGRAMS: [Listener; 5] = [
    Listener::Inbound,
    Listener::Destination,
    Listener::Identity,
    Listener::Injector,
    Listener::TapApi,
];
/// Time between two looks at memory.
const LOOK: Duration = Duration::from_secs(1);
/// Allowed growth of memory: the last fifth of the run compared with the second fifth.
const MOST: f64 = 0.1;
/// Growth that attacks leave behind for some seconds, in bytes.
const NOISE: f64 = 8.0 * 1_048_576.0;
/// Parts of a run; the first one is the warm-up.
const PARTS: usize = 5;

/// Runs it.
pub(crate) fn run(programs: &Programs, minutes: u64) -> Result<()> {
    namespaces::network()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let length = Duration::from_secs(60 * minutes);
    runtime.block_on(LocalSet::new().run_until(together(programs, length)))
}

/// One program with its attacks.
struct Under {
    listener: Listener,
    pid: u32,
    admin: SocketAddr,
    asked: Vec<(&'static str, Asked)>,
    rss: Vec<f64>,
    attacks: Rc<Cell<usize>>,
    _parts: Box<dyn std::any::Any>,
}

async fn together(programs: &Programs, length: Duration) -> Result<()> {
    let mut all = Vec::new();
    for listener in PROGRAMS.into_iter().filter(|listener| programs.has(*listener)) {
        let world = suite::start(listener, programs, None).await?;
        all.push(begin(listener, world));
    }
    let (begun, mut looks) = (Instant::now(), interval(LOOK));
    while begun.elapsed() < length {
        looks.tick().await;
        for one in &mut all {
            let usage = Usage::from_pid(one.pid).with_context(|| format!("{:?}: the program ended", one.listener))?;
            one.rss.push(usage.rss as f64);
        }
    }
    let over = Instant::now();
    let mut broken = Vec::new();
    for one in &all {
        broken.extend(report(one, (begun, over)).await?);
    }
    ensure!(broken.is_empty(), "not kept: {}", broken.join("; "));
    Ok(())
}

fn begin(listener: Listener, world: World) -> Under {
    let World {
        target,
        pid,
        admin,
        good,
        parts,
    } = world;
    let attacks = Rc::new(Cell::new(0));
    tokio::task::spawn_local(attack(listener, target, Rc::clone(&attacks)));
    Under {
        listener,
        pid,
        admin,
        asked: suite::ask(good),
        rss: Vec::new(),
        attacks,
        _parts: parts,
    }
}

/// Attacks the program, in turns, until dropped.
async fn attack(listener: Listener, target: Target, count: Rc<Cell<usize>>) {
    let suits = |attack: &&Attack| {
        let same = attack.listener == listener || attack.listener.is_of_sidecar() && listener.is_of_sidecar();
        same && attack.files.is_none() && attack.finding != "h2spec"
    };
    loop {
        for attack in attacks::ALL.iter().filter(suits) {
            let target = if listener.is_of_sidecar() {
                Target::in_sidecar(attack.listener, target.keys.clone(), target.pid)
            } else {
                target.clone()
            };
            if let Err(error) = suite::carry_out(attack, target).await {
                eprintln!("{}, {:?}: {error:#}", attack.name, attack.listener);
            }
            count.set(count.get() + 1);
        }
        sleep(LOOK).await;
    }
}

/// Prints what became of a program; returns the promises that were not kept.
#[expect(clippy::print_stdout, reason = "it is what this command is for")]
async fn report(one: &Under, (begun, over): (Instant, Instant)) -> Result<Vec<String>> {
    let part = (one.rss.len() / PARTS).max(1);
    let (second, last) = (
        &one.rss[part.min(one.rss.len() - part)..][..part],
        &one.rss[one.rss.len() - part..],
    );
    let (from, to) = (median(second), median(last));
    let most = one.rss.iter().copied().fold(0.0, f64::max);
    let mib = |bytes: f64| bytes / 1_048_576.0;
    println!(
        "{:?}: {} attacks; {:.1} MiB after the warm-up, {:.1} at most, {:.1} at the end, {:+.1} in an hour",
        one.listener,
        one.attacks.get(),
        mib(from),
        mib(most),
        mib(to),
        mib(slope(&one.rss[part..])) * 3_600.0
    );
    let mut broken = Vec::new();
    if to / from - 1.0 > MOST && to - from > NOISE {
        broken.push(format!(
            "{:?}: memory grew from {:.1} to {:.1} MiB",
            one.listener,
            mib(from),
            mib(to)
        ));
    }
    for (name, asked) in &one.asked {
        let seen = asked.within(begun, over);
        println!(
            "  {name}: {} asked, {} failed, p50 {:?}, p99 {:?}",
            seen.asked, seen.failed, seen.p50, seen.p99
        );
        broken.extend(
            seen.failure
                .map(|failure| format!("{name}: {} failed: {failure}", seen.failed)),
        );
    }
    let panics = panics(one.admin).await?;
    println!(
        "  panics: {panics}; refused by {}",
        suite::refused(one.admin).await.join(", ")
    );
    if panics != "0" {
        broken.push(format!("{:?}: {panics} panics", one.listener));
    }
    Ok(broken)
}

/// Panics that the program has counted; a program without such a counter ends by one.
async fn panics(admin: SocketAddr) -> Result<String> {
    let over = |error| anyhow::anyhow!("cannot read the metrics of {admin}: {error}");
    let mut client = Client::http1(admin, "localhost").await.map_err(over)?;
    let metrics = client.get("/metrics").await.map_err(over)?.body;
    let text = String::from_utf8_lossy(&metrics).into_owned();
    let count = text
        .lines()
        .find_map(|line| line.strip_prefix("mesh_connection_panics_total "));
    Ok(count.unwrap_or("0").to_owned())
}

/// Growth from one value to the next, by least squares.
fn slope(values: &[f64]) -> f64 {
    let middle = (values.len() as f64 - 1.0) / 2.0;
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let from_middle = |at: usize| at as f64 - middle;
    let all = values.iter().enumerate();
    let (rise, run) = all.fold((0.0, 0.0), |(rise, run), (at, value)| {
        let x = from_middle(at);
        (rise + x * (value - mean), run + x * x)
    });
    rise / run
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn the_slope_ignores_what_goes_up_and_down() {
        assert_eq!(slope(&[1.0, 3.0, 5.0, 7.0]), 2.0);
        assert_eq!(slope(&[4.0, 8.0, 8.0, 4.0]), 0.0);
    }
}
