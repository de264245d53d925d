//! The program `mesh`: one program for people: demo, local, viz.

mod command;
mod local;

fn main() -> std::process::ExitCode {
    command::run()
}
