//! Several workers: their cost per request, and the spread of connections.
//!
//! With two threads in each sidecar there are more threads than cores, and part of the cost is the scheduler's. So the
//! bare pair has as many threads, in turns with the mesh: judged is the cost of workers beyond that of the bare pair.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result};

use super::{Args, print::Line};
use crate::{
    bare::Speaks,
    lab::{Lab, Pair, Threads, Wanted},
    orders::{Load, What},
    report::Measured,
    run::WARM_UP_MS,
    usage,
};

/// Connections, several per worker.
const CONNECTIONS: usize = 64;
/// Sockets of the worker with fewest, and with most, if connections are spread evenly. One worker listens too, and
/// either may have the connection between the sidecars. Time cannot be compared: a worker that shares its core with
/// the load gets less of it.
const EVEN: f64 = 0.8;

/// Both pairs with a number of workers.
struct Pairs {
    lab: Lab,
    mesh: Pair,
    bare: Pair,
    workers: usize,
}

/// Measurement of each pair.
#[derive(Default)]
struct Rounds {
    mesh_rate: Vec<f64>,
    mesh_cpu: Vec<f64>,
    bare_cpu: Vec<f64>,
    /// Sockets of the worker with fewest, and with most.
    even: Vec<f64>,
}

/// Lines for 2 and 4 workers; the sidecars are not pinned. A machine with fewer cores has fewer workers.
pub(super) fn lines(mesh: &Wanted, args: &Args) -> Result<Vec<Line>> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut one = Pairs::start(mesh, 1)?;
    let mut lines = Vec::new();
    for workers in [2, 4].into_iter().filter(|workers| *workers <= cores) {
        let mut more = Pairs::start(mesh, workers)?;
        let (mut of_more, mut of_one) = (Rounds::default(), Rounds::default());
        for round in 0..args.rounds {
            let mut turns = [(&mut more, &mut of_more), (&mut one, &mut of_one)];
            // Who was first is last in the next round.
            turns.rotate_left(round % 2);
            for (pairs, rounds) in turns {
                pairs.round(args.seconds * 1000, rounds)?;
            }
        }
        more.lab.check()?;
        lines.extend(compare(workers, of_more, of_one));
    }
    one.lab.check()?;
    Ok(lines)
}

fn compare(workers: usize, more: Rounds, one: Rounds) -> [Line; 4] {
    let ratios =
        |more: &[f64], one: &[f64]| -> Vec<f64> { more.iter().zip(one).map(|(more, one)| more / one).collect() };
    let mesh = ratios(&more.mesh_cpu, &one.mesh_cpu);
    let bare = ratios(&more.bare_cpu, &one.bare_cpu);
    [
        Line::new(format!("workers {workers}, to 1: rate"), "requests/s")
            .with_values(more.mesh_rate, one.mesh_rate, vec![])
            .ratio_at_least(0.95),
        Line::new(format!("workers {workers}: both sidecars"), "µs CPU").with_values(
            more.mesh_cpu,
            more.bare_cpu,
            vec![],
        ),
        Line::new(format!("workers {workers}, to 1: both sidecars"), "× CPU")
            .with_values(mesh, bare, vec![])
            .ratio_at_most(1.1),
        Line::new(format!("workers {workers}: connections, fewest to most"), "of 1")
            .with_values(more.even, vec![], vec![])
            .at_least(EVEN),
    ]
}

impl Pairs {
    fn start(mesh: &Wanted, workers: usize) -> Result<Self> {
        let mut lab = Lab::start(true)?;
        let is_pinned = false;
        let bare = lab.bare_with(Speaks::Http1, Threads { workers, is_pinned })?;
        let mesh = lab.mesh(&Wanted {
            workers,
            is_pinned,
            ..mesh.clone()
        })?;
        let mut pairs = Self {
            lab,
            mesh,
            bare,
            workers,
        };
        for pair in [mesh, bare] {
            pairs.measure(pair, WARM_UP_MS)?;
        }
        Ok(pairs)
    }

    /// Measures the mesh, then the bare pair.
    fn round(&mut self, ms: u64, rounds: &mut Rounds) -> Result<()> {
        let cpu = |measured: &Measured| measured.outbound.total_us() + measured.inbound.total_us();
        let (pid, workers) = (self.mesh.outbound, self.workers);
        let look = thread::spawn(move || {
            thread::sleep(Duration::from_millis(ms / 2));
            usage::sockets(pid)
        });
        let mesh = self.measure(self.mesh, ms)?;
        let sockets = look.join().ok().context("the look failed")??;
        // Other runtimes have a handful.
        let of_workers = sockets.get(..workers).context("a worker has no sockets")?;
        rounds.even.push(of_workers[workers - 1] / of_workers[0]);
        rounds.mesh_rate.push(mesh.rate());
        rounds.mesh_cpu.push(cpu(&mesh));
        rounds.bare_cpu.push(cpu(&self.measure(self.bare, ms)?));
        Ok(())
    }

    fn measure(&mut self, pair: Pair, ms: u64) -> Result<Measured> {
        let load = Load {
            addr: pair.entry,
            connections: CONNECTIONS,
            ms,
            what: What::Http1,
            pause_ms: 0,
        };
        Measured::run(&mut self.lab, &pair, load)
    }
}
