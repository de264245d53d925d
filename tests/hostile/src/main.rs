//! Program `mesh-hostile`: carries out the attacks and prints their table.

use std::process::ExitCode;

use clap::Parser as _;
use tests_hostile::args::Args;

fn main() -> ExitCode {
    match Args::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mesh-hostile: {error:#}");
            ExitCode::FAILURE
        }
    }
}
