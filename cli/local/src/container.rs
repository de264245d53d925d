//! `internal container`: enters a pod's namespaces and becomes the container's command there.
//!
//! Namespaces are entered before any thread exists, and `exec` keeps the process, so the parent watches the command.

use std::{
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use nix::{sched::CloneFlags, sys::signal::SigSet};

use super::namespaces;

/// Arguments of the role.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// PID of the pod's pause process, which holds its namespaces.
    #[arg(long)]
    pause_pid: u32,
    /// Working directory.
    #[arg(long)]
    cwd: PathBuf,
    /// Command.
    #[arg(last = true, required = true)]
    argv: Vec<String>,
}

/// Executes the command; returns only if that fails.
pub(super) fn run(args: Args) -> Result<ExitCode> {
    let kinds = [
        ("net", CloneFlags::CLONE_NEWNET),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("mnt", CloneFlags::CLONE_NEWNS),
    ];
    namespaces::enter_pod(args.pause_pid, &kinds)?;
    std::env::set_current_dir(&args.cwd).with_context(|| format!("cannot enter workingDir {}", args.cwd.display()))?;
    // `mesh local exec` blocks keyboard signals; the command should receive them.
    SigSet::empty().thread_set_mask().context("cannot unblock signals")?;
    let (program, rest) = args.argv.split_first().expect("required by clap");
    let error = Command::new(program).args(rest).exec();
    bail!("cannot run {program}: {error}")
}
