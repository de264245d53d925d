//! The program `mesh`: one file or folder per command, the table of commands in `command`.
//!
//! Shared by the commands: `target` selects the mesh to query, `kube` connects to a cluster, `output` writes to the
//! terminal.

mod authz;
mod check;
mod command;
#[cfg(feature = "local")]
mod demo;
mod diagnostics;
mod identity;
mod inject;
mod install;
mod kube;
mod local;
mod man;
mod output;
mod profile;
#[cfg(test)]
mod reference;
mod target;
mod uninstall;
mod version;
mod viz;

fn main() -> std::process::ExitCode {
    command::run()
}
