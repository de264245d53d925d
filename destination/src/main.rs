//! Program `mesh-destination`: serves the cluster's endpoints, profiles and policies to proxies.
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
