//! The program's life: read files, serve, watch files, drain.

use std::process::ExitCode;

use crate::args::Args;

/// Runs until a signal ends it.
pub(crate) fn run(_args: Args) -> ExitCode {
    ExitCode::SUCCESS
}
