//! The program `mesh`: one program for people: demo, local, viz.

mod command;
mod demo;
mod inject;
mod local;
mod output;
mod viz;

fn main() -> std::process::ExitCode {
    command::run()
}
