//! The program `mesh`: one program for people: demo, local, viz.

mod command;
mod demo;
mod inject;
mod install;
mod uninstall;
mod viz;

use cli_inspect::{authz, check, cluster, diagnostics, identity, output, profile, version};
use cli_local as local;

fn main() -> std::process::ExitCode {
    command::run()
}
