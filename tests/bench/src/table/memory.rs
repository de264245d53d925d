//! Memory of both sidecars: idle, for each idle connection, and after a burst of connections.

use std::{thread::sleep, time::Duration};

use anyhow::Result;

use super::print::Line;
use crate::{
    bare::Speaks,
    lab::{Lab, Pair, Wanted},
    orders::{Load, Order, What},
    usage,
};

/// Number of connections opened, held and closed.
const CONNECTIONS: usize = 4_000;
/// Time for connections to settle and the allocator to release memory.
const SETTLE: Duration = Duration::from_secs(10);
const MIB: f64 = 1_048_576.0;

/// Memory of both sidecars of a pair, outbound first, in bytes.
struct Stages {
    idle: [f64; 2],
    held: [f64; 2],
    closed: [f64; 2],
}

/// Lines of memory, each with a new pair.
pub(super) fn lines(mesh: &Wanted) -> Result<Vec<Line>> {
    let mesh = {
        let mut lab = Lab::start(true)?;
        let pair = lab.mesh(mesh)?;
        let stages = stages(&mut lab, pair.for_bytes())?;
        lab.check()?;
        stages
    };
    let bare = {
        let mut lab = Lab::start(true)?;
        let pair = lab.bare(Speaks::Tcp)?;
        stages(&mut lab, pair)?
    };
    let mut lines = Vec::new();
    for (side, name) in ["outbound", "inbound"].into_iter().enumerate() {
        let line = |what: &str, unit, of: &dyn Fn(&Stages) -> f64, limit| {
            Line::new(format!("memory {what}, {name}"), unit)
                .with_values(vec![of(&mesh)], vec![of(&bare)], vec![])
                .at_most(limit)
        };
        let each = |stages: &Stages| (stages.held[side] - stages.idle[side]) / CONNECTIONS as f64 / 1024.0;
        lines.extend([
            line("idle", "MiB", &|stages| stages.idle[side] / MIB, 8.0),
            line("per idle connection", "KiB", &each, 9.0),
            line("after 4,000 closed", "MiB", &|stages| stages.closed[side] / MIB, 12.0),
        ]);
    }
    Ok(lines)
}

fn stages(lab: &mut Lab, pair: Pair) -> Result<Stages> {
    let used = || anyhow::Ok([usage::memory(pair.outbound)?, usage::memory(pair.inbound)?]);
    sleep(SETTLE / 4);
    let idle = used()?;
    // So that what a connection costs is not what the first one does.
    lab.load(Load {
        addr: pair.entry,
        connections: 1,
        ms: 100,
        what: What::Tcp,
        pause_ms: 10,
    })?;
    lab.client.order(&Order::Hold(pair.entry, CONNECTIONS))?;
    sleep(SETTLE);
    let held = used()?;
    lab.client.order(&Order::Release)?;
    sleep(SETTLE);
    let closed = used()?;
    Ok(Stages { idle, held, closed })
}
