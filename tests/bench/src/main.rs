//! The program `mesh-bench`: what a request costs the two sidecars, beside a bare hyper and rustls pair of ours.
//!
//! ```text
//! [run] starts and measures   [side] client ── [load] ──▶ sidecar ═mTLS═▶ sidecar ──▶ [backend] ── side server
//!                              a network namespace            a network namespace
//! ```
//! The sidecars are mesh-proxy and mesh-proxy, or [bare] and [bare], in turns within one run.
//!
//! Instructions per request of either side, the same on any machine: run twice, subtract thread by thread, and divide by
//! the difference of the counts (`--bare` does it for the bare pair). Threads: 1 client and application, 2 inbound,
//! 3 outbound.
//!
//! ```text
//! for n in 1600 6400; do valgrind --tool=callgrind --separate-threads=yes --callgrind-out-file=/tmp/cg.$n \
//!     target/release/mesh-bench instructions --requests $n; done
//! grep -h ^totals: /tmp/cg.1600-0[123] /tmp/cg.6400-0[123]
//! ```

mod args;
mod backend;
mod bare;
mod child;
mod control_plane;
mod cpu;
mod instructions;
mod load;
mod namespaces;
mod orders;
mod proxy;
mod report;
mod run;
mod side;
mod webhook;
mod wire;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match args::Args::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mesh-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
