//! The program `mesh-validator`: checks that the pod's traffic is redirected, then exits.

use std::process::ExitCode;

use clap::Parser as _;
use mesh_init::validate::{Args, EXIT_NOT_REDIRECTED, run};

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mesh-validator: {error}");
            ExitCode::from(EXIT_NOT_REDIRECTED)
        }
    }
}
