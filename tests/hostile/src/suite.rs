//! One row: an attack, what the program took for it, what it answered, and what good clients saw meanwhile.

use std::{
    future::Future,
    pin::Pin,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use tests_harness::{client::Client, namespaces, process::Usage};
use tokio::{sync::oneshot, task::LocalSet, time::sleep};

use crate::{
    control_plane,
    good::{Asked, Good, Seen},
    programs::{Programs, World},
    sidecar,
    target::{Listener, Target},
};

/// Future of an attack; its text says what was answered.
pub type Running<'a> = Pin<Box<dyn Future<Output = Result<String>> + 'a>>;

/// Attack.
pub struct Attack {
    /// Name, which a filter may match.
    pub name: &'static str,
    /// Attacked listener.
    pub listener: Listener,
    /// Finding of the review (H1a) or row of the advisories (16) that it shows.
    pub finding: &'static str,
    /// Open files that the program may have; none for the system's limit.
    pub files: Option<u64>,
    /// The attack.
    pub run: for<'a> fn(&'a Target) -> Running<'a>,
}

/// Result of an attack.
#[derive(Clone, Debug)]
pub struct Row {
    /// Name.
    pub name: &'static str,
    /// Listener.
    pub listener: Listener,
    /// Finding.
    pub finding: &'static str,
    /// Usage before the attack.
    pub before: Usage,
    /// Usage at its end.
    pub during: Option<Usage>,
    /// Usage when its connections are gone.
    pub after: Option<Usage>,
    /// Answer, or the promise of the attack's own that was not kept.
    pub answer: Result<String, String>,
    /// Good clients before and during the attack.
    pub seen: Vec<(&'static str, Seen, Seen)>,
    /// Limits that refused something.
    pub refused: Vec<String>,
}

/// Time of the good clients alone.
const ALONE: Duration = Duration::from_millis(800);
/// Time for connections to be gone.
const SETTLE: Duration = Duration::from_millis(1200);
/// Shortest time for which good clients are watched.
const LEAST: Duration = Duration::from_secs(1);
/// Longest attack.
const MOST: Duration = Duration::from_secs(45);
/// Largest growth of a sidecar, and of a program of the control plane.
const SIDECAR: u64 = 32 << 20;
const CONTROL_PLANE: u64 = 64 << 20;
/// Largest multiple of a good client's own latency.
const TIMES: u32 = 3;

impl Row {
    /// Largest resident memory until the attack's connections are gone: some of its work may be left when it ends.
    pub fn peak(&self) -> Option<u64> {
        Some(self.during?.peak.max(self.after?.peak))
    }

    /// Growth of resident memory, in bytes.
    pub fn growth(&self) -> Option<u64> {
        Some(self.peak()?.saturating_sub(self.before.rss))
    }

    /// Promises that are not kept. Latencies below `floor` are the machine's.
    pub fn broken(&self, floor: Duration) -> Vec<String> {
        let mut broken: Vec<String> = self.answer.as_ref().err().cloned().into_iter().collect();
        let most = if self.listener.is_of_sidecar() {
            SIDECAR
        } else {
            CONTROL_PLANE
        };
        match self.growth() {
            None => broken.push("the program ended".to_owned()),
            Some(growth) if growth > most => {
                broken.push(format!("memory grew by {} MiB, at most {}", growth >> 20, most >> 20));
            }
            Some(_) => {}
        }
        for (name, alone, during) in &self.seen {
            if let Some(failure) = &during.failure {
                broken.push(format!(
                    "{name}: {} of {} failed: {failure}",
                    during.failed, during.asked
                ));
            }
            let most = (alone.p99 * TIMES).max(floor);
            if during.p99 > most {
                broken.push(format!("{name}: p99 {:?}, at most {most:?}", during.p99));
            }
        }
        broken
    }
}

/// Carries out an attack in a network namespace of its own.
pub fn row(attack: &'static Attack, programs: &Programs) -> Result<Row> {
    let programs = programs.clone();
    let of_row = move || {
        namespaces::network()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(LocalSet::new().run_until(measure(attack, &programs)))
    };
    let ran = thread::Builder::new()
        .name(attack.name.to_owned())
        .spawn(of_row)?
        .join();
    ran.map_err(|_| anyhow!("the suite itself panicked"))?
}

async fn measure(attack: &'static Attack, programs: &Programs) -> Result<Row> {
    let World {
        target,
        pid,
        admin,
        good,
        parts,
    } = start(attack.listener, programs, attack.files).await?;
    let asked = ask(good);
    // The first requests make connections, caches and buffers.
    sleep(ALONE / 2).await;
    let alone = Instant::now();
    sleep(ALONE).await;
    // Memory at its largest is counted from now on.
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").context("cannot reset the peak of memory")?;
    let before = Usage::from_pid(pid).context("the program ended before the attack")?;
    let begun = Instant::now();
    let answer = carry_out(attack, target).await;
    // An attack that is refused at once has been felt, if at all, in the time of a few questions.
    sleep(LEAST.saturating_sub(begun.elapsed())).await;
    let over = Instant::now();
    let during = Usage::from_pid(pid);
    sleep(SETTLE).await;
    let row = Row {
        name: attack.name,
        listener: attack.listener,
        finding: attack.finding,
        before,
        during,
        after: Usage::from_pid(pid),
        answer: answer.map_err(|error| format!("{error:#}")),
        seen: asked
            .iter()
            .map(|(name, asked)| (*name, asked.within(alone, begun), asked.within(begun, over)))
            .collect(),
        refused: refused(admin).await,
    };
    drop(parts);
    Ok(row)
}

/// Starts the program that has the listener, under the memory limit and one of open files. Runs in a `LocalSet`.
pub(crate) async fn start(listener: Listener, programs: &Programs, files: Option<u64>) -> Result<World> {
    if listener.is_of_sidecar() {
        sidecar::start(listener, programs, files).await
    } else {
        control_plane::start(listener, programs, files).await
    }
}

/// Starts good clients on the running `LocalSet`.
pub(crate) fn ask(good: Vec<Good>) -> Vec<(&'static str, Asked)> {
    let start = |good: Good| {
        let (name, all) = (good.name, Asked::default());
        tokio::task::spawn_local(good.ask_on(all.clone()));
        (name, all)
    };
    good.into_iter().map(start).collect()
}

/// Runs the attack on a thread of its own, so that it takes no time of the good clients.
pub(crate) async fn carry_out(attack: &'static Attack, target: Target) -> Result<String> {
    let (done, answer) = oneshot::channel();
    let attacker = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let ran = runtime.map_err(Into::into).and_then(|runtime| {
            runtime.block_on(async {
                let ran = tokio::time::timeout(MOST, (attack.run)(&target)).await;
                ran.unwrap_or_else(|_| Err(anyhow!("it did not end in {MOST:?}")))
            })
        });
        let _ = done.send(ran);
    };
    thread::spawn(attacker);
    answer.await.context("the attacker panicked")?
}

/// Counters of refusals that are not zero.
pub(crate) async fn refused(admin: std::net::SocketAddr) -> Vec<String> {
    const FAMILY: &str = "mesh_limit_refused_total{limit=\"";
    let Ok(mut client) = Client::http1(admin, "localhost").await else {
        return vec!["no metrics".to_owned()];
    };
    let Ok(answer) = client.get("/metrics").await else {
        return vec!["no metrics".to_owned()];
    };
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let lines = text.lines().filter_map(|line| line.strip_prefix(FAMILY));
    let counts = lines.filter_map(|line| line.split_once("\"} "));
    counts
        .filter(|(_, count)| *count != "0")
        .map(|(limit, count)| format!("{limit} {count}"))
        .collect()
}
