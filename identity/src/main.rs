//! Program `mesh-identity`: signs leaves for workloads that prove their identity.
//!
//! ```text
//! files --reload--> [authority] ─┐
//! token ──[validator]── identity ┼─▶ [certify] ──▶ [grpc]
//! CSR ───────────────────────────┘
//! ```

mod args;
mod authority;
mod certify;
mod grpc;
mod limits;
mod metrics;
mod review;
mod run;
mod token;
mod validator;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    run::run(args::Args::parse())
}
