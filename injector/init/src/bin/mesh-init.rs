//! The program `mesh-init`: redirects a pod's traffic to its sidecar, then exits.

use std::process::ExitCode;

use clap::Parser as _;
use mesh_init::rules::{Args, run};

fn main() -> ExitCode {
    match run(&Args::parse(), &mut std::io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mesh-init: {error}");
            ExitCode::FAILURE
        }
    }
}
