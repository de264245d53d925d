//! The program `mesh-destination`: what proxies need to know of the cluster.
//!
//! ```text
//! directories, or a cluster ──[feed]──▶ index ──▶ destination-grpc ──▶ proxies
//! ```

mod args;
mod feed;
mod run;
mod status;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    run::run(args::Args::parse())
}
