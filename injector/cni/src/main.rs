//! The program `mesh-cni`: run by a container runtime it is a CNI plugin (`linkerd-cni`), run by a DaemonSet it
//! installs that plugin on a node, keeps it in place, and repairs pods that started before it.
//!
//! ```text
//! runtime ──CNI_COMMAND, network config──▶ [plugin] ─ pod, namespace ─▶ rules in the pod's network namespace
//! DaemonSet ─▶ [agent] ─┬─[install]─▶ /opt/cni/bin, /etc/cni/net.d (through [chain], which is pure)
//!                       └─[repair]──▶ pods whose validator exited with 95
//! ```

mod agent;
mod args;
mod chain;
mod install;
mod metrics;
mod plugin;
mod repair;
mod taint;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    if plugin::is_called() {
        return plugin::run();
    }
    match args::Args::parse().command {
        args::Command::Install(args) => agent::run(*args),
    }
}
