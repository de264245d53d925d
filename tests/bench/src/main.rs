//! Program `mesh-bench`: cost of a request in both sidecars, compared with a bare hyper and rustls pair of ours.
//!
//! ```text
//! [run] starts and measures
//! [side] client ── [tests_load] ──▶ sidecar ═mTLS═▶ sidecar ──▶ [tests_load::backend] ── side server
//!         a network namespace                          a network namespace
//! ```
//! The sidecars are mesh-proxy and mesh-proxy, or [bare] and [bare], in turns within one run.
//!
//! [table] measures everything, with targets; [soak] looks for growing memory; [guard] counts instructions, which are
//! the same on any machine.

mod args;
mod bare;
mod child;
mod cluster;
mod control_plane;
mod generator;
mod guard;
mod instructions;
mod lab;
mod namespaces;
mod proxy;
mod report;
mod run;
mod side;
mod soak;
mod table;
mod updates;
mod usage;
mod webhook;
mod wire;

use std::process::ExitCode;

use clap::Parser as _;
use tests_load::{self as load, backend, orders};

fn main() -> ExitCode {
    match args::Args::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mesh-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
