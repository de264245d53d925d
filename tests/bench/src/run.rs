//! The short benchmark: one load, both pairs in turns.

use std::{io::Write as _, path::PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::{
    bare::Speaks,
    lab::{self, Lab, Pair, Wanted},
    namespaces,
    orders::{Load, What},
    report::{Measured, Report},
    usage::Cpu,
};

/// Warm-up: connections, discovery, caches.
pub(crate) const WARM_UP_MS: u64 = 1_000;

/// Options of the benchmark.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// HTTP/1 connections, each with one request in flight
    #[arg(long, default_value_t = 32)]
    pub(crate) connections: usize,
    /// Length of one measurement, in seconds
    #[arg(long, default_value_t = 5)]
    pub(crate) seconds: u64,
    /// Measurements of each pair, in turns
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Path of mesh-proxy; defaults to the one beside this program
    #[arg(long, value_name = "PATH")]
    pub(crate) proxy: Option<PathBuf>,
    /// Write the result as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Measure only the bare pair
    #[arg(long)]
    pub(crate) bare_only: bool,
    /// Use loopback instead of network namespaces (bare pair only)
    #[arg(long, requires = "bare_only")]
    pub(crate) loopback: bool,
    /// Fail if the sidecars cost more than this multiple of the bare pair
    #[arg(long, value_name = "RATIO")]
    pub(crate) max_ratio: Option<f64>,
}

/// Runs the benchmark.
pub(crate) fn run(options: Options) -> Result<()> {
    if !options.loopback {
        namespaces::private()?;
    }
    let mut lab = Lab::start(!options.loopback)?;
    let bare = lab.bare(Speaks::Http1)?;
    let mesh = if options.bare_only {
        None
    } else {
        let program = options.proxy.clone().map_or_else(lab::beside_myself, Ok)?;
        Some(lab.mesh(&Wanted::new(program))?)
    };
    let mut report = Report {
        connections: options.connections,
        seconds: options.seconds,
        mesh: vec![],
        bare: vec![],
    };
    for pair in mesh.iter().chain([&bare]) {
        lab.load(load(pair, &options, WARM_UP_MS))?;
    }
    for round in 0..options.rounds {
        // Every second round begins with the other pair.
        let mut turns = [true, false];
        if round % 2 == 1 {
            turns.reverse();
        }
        for is_mesh in turns {
            match (&mesh, is_mesh) {
                (Some(mesh), true) => report.mesh.push(measure(&mut lab, mesh, &options)?),
                (None, true) => {}
                (_, false) => report.bare.push(measure(&mut lab, &bare, &options)?),
            }
        }
    }
    if mesh.is_some() {
        lab.check()?;
    }
    finish(&options, &report)
}

fn load(pair: &Pair, options: &Options, ms: u64) -> Load {
    Load {
        addr: pair.entry,
        connections: options.connections,
        ms,
        what: What::Http1,
        pause_ms: 0,
    }
}

fn measure(lab: &mut Lab, pair: &Pair, options: &Options) -> Result<Measured> {
    Measured::run(lab, pair, load(pair, options, options.seconds * 1000))
}

impl Measured {
    /// Runs a load over a pair.
    pub(crate) fn run(lab: &mut Lab, pair: &Pair, load: Load) -> Result<Self> {
        let before = (Cpu::read(pair.outbound)?, Cpu::read(pair.inbound)?);
        let load = lab.load(load)?;
        let (outbound, inbound) = (Cpu::read(pair.outbound)?, Cpu::read(pair.inbound)?);
        let each = |after: Cpu, before| after.each(before, load.requests);
        Ok(Self {
            outbound: each(outbound, before.0),
            inbound: each(inbound, before.1),
            load,
        })
    }
}

fn finish(options: &Options, report: &Report) -> Result<()> {
    let Options {
        connections,
        rounds,
        seconds,
        ..
    } = options;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{connections} connections, {rounds} rounds of {seconds} s\n{}",
        report.table()
    )?;
    if let Some(file) = &options.json {
        let text = serde_json::to_string_pretty(&report.json())?;
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if let (Some(most), Some(ratios)) = (options.max_ratio, report.ratios()) {
        let (outbound, inbound) = (ratios.outbound, ratios.inbound);
        ensure!(
            outbound <= most && inbound <= most,
            "the sidecars cost {outbound:.2} (outbound) and {inbound:.2} (inbound) times the bare pair, at most {most} is allowed"
        );
    }
    Ok(())
}
