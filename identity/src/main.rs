//! The program `mesh-identity`: tells workloads who they are, by signing leaves for those that prove it.
//!
//! ```text
//! files --reload--> [authority] ─┐
//! token ──[token]── identity ────┼─▶ [certify] ──▶ [grpc]
//! CSR ───────────────────────────┘
//! ```

mod args;
mod authority;
mod certify;
mod files;
mod grpc;
mod metrics;
mod run;
mod token;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    run::run(args::Args::parse())
}
