//! The program `mesh`: one program for people: demo, local, viz.

mod check;
mod cluster;
mod command;
mod demo;
mod inject;
mod install;
mod output;
mod uninstall;
mod viz;

use cli_local as local;

fn main() -> std::process::ExitCode {
    command::run()
}
