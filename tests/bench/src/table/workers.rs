//! More workers than one: what they cost a request, and whether connections are spread evenly.

use anyhow::Result;

use super::{Args, print::Line};
use crate::{
    lab::{Lab, Pair, Wanted},
    orders::{Load, What},
    report::Measured,
    run::WARM_UP_MS,
    usage,
};

/// Connections: enough for each worker to have several.
const CONNECTIONS: usize = 64;
/// A worker's share of the work, least to most loaded, if connections are spread evenly. Answers to few connections are
/// not all alike, so it is never 1.
const EVEN: f64 = 0.8;

/// Lines for 2 and 4 workers; the sidecars are not kept on one core here. A machine with fewer cores has fewer workers.
pub(super) fn lines(mesh: &Wanted, args: &Args) -> Result<Vec<Line>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut one = start(mesh, 1)?;
    let mut lines = Vec::new();
    for workers in [2, 4].into_iter().filter(|workers| *workers <= cores) {
        let mut more = start(mesh, workers)?;
        let (mut rate, mut cpu, mut even) = ((vec![], vec![]), (vec![], vec![]), vec![]);
        for _ in 0..args.rounds {
            let before = usage::workers(more.1.outbound)?;
            let with_more = measure(&mut more, args.seconds * 1000)?;
            let after = usage::workers(more.1.outbound)?;
            let used = || after.iter().zip(&before).map(|(after, before)| after - before);
            even.push(used().fold(f64::MAX, f64::min) / used().fold(0.0, f64::max));
            let with_one = measure(&mut one, args.seconds * 1000)?;
            rate.0.push(with_more.rate());
            rate.1.push(with_one.rate());
            cpu.0.push(with_more.outbound.total_us() + with_more.inbound.total_us());
            cpu.1.push(with_one.outbound.total_us() + with_one.inbound.total_us());
        }
        more.0.check()?;
        lines.extend([
            Line::new(format!("workers {workers}, to 1: rate"), "requests/s")
                .of(rate.0, rate.1, vec![])
                .ratio_at_least(0.95),
            Line::new(format!("workers {workers}, to 1: both sidecars"), "µs CPU")
                .of(cpu.0, cpu.1, vec![])
                .ratio_at_most(1.1),
            Line::new(format!("workers {workers}: least to most loaded"), "of 1")
                .of(even, vec![], vec![])
                .at_least(EVEN),
        ]);
    }
    Ok(lines)
}

fn start(mesh: &Wanted, workers: usize) -> Result<(Lab, Pair)> {
    let mut lab = Lab::start(true)?;
    let pair = lab.mesh(&Wanted {
        workers,
        is_pinned: false,
        ..mesh.clone()
    })?;
    let mut lab = (lab, pair);
    measure(&mut lab, WARM_UP_MS)?;
    Ok(lab)
}

fn measure((lab, pair): &mut (Lab, Pair), ms: u64) -> Result<Measured> {
    let load = Load {
        addr: pair.entry,
        connections: CONNECTIONS,
        ms,
        what: What::Http1,
        pause_ms: 0,
    };
    Measured::of(lab, pair, load)
}
