//! Network namespaces, entered before a process has a second thread.

use std::{fs::File, os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context as _, Result, bail};
use nix::{
    sched::{CloneFlags, CpuSet, sched_setaffinity, setns},
    sys::{
        prctl::set_pdeathsig,
        resource::{Resource, getrlimit, setrlimit},
        signal::Signal,
    },
    unistd::Pid,
};
pub(crate) use tests_harness::namespaces::{network, private};

/// Pins this process to one core if the machine has several: sidecars on one, load and backend on another, so that they
/// do not take time from each other.
pub(crate) fn stay_on(core: usize) -> Result<()> {
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() > core) {
        let mut set = CpuSet::new();
        set.set(core)?;
        // A container may give other cores than the first; then the scheduler decides.
        let _ = sched_setaffinity(Pid::from_raw(0), &set);
    }
    Ok(())
}

/// Prepares for thousands of short connections: ports of closed connections may be reused at once, and this process may
/// open as many files as the system allows.
pub(crate) fn busy() -> Result<()> {
    // Where the system forbids it, a load of short connections says so.
    let _ = std::fs::write("/proc/sys/net/ipv4/tcp_tw_reuse", "1");
    let _ = std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "10240 65000");
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("cannot raise the limit of open files")
}

/// Arguments of `enter`.
#[derive(Debug, clap::Args)]
pub(crate) struct Enter {
    /// Process whose network namespace the command runs in; 0 is this one
    #[arg(long)]
    pid: u32,
    /// Core to pin it to; by default left to the scheduler
    #[arg(long)]
    core: Option<usize>,
    /// Command
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<String>,
}

/// Executes the command in the network namespace of another process.
pub(crate) fn enter(args: &Enter) -> Result<()> {
    if args.pid != 0 {
        let namespace = File::open(format!("/proc/{}/ns/net", args.pid)).context("the other process is gone")?;
        setns(namespace, CloneFlags::CLONE_NEWNET).context("cannot enter its network namespace")?;
    }
    if let Some(core) = args.core {
        stay_on(core)?;
    }
    // Whatever ends the benchmark ends its sidecars too.
    set_pdeathsig(Signal::SIGKILL)?;
    let Some((program, arguments)) = args.command.split_first() else {
        bail!("no command")
    };
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {program}"))
}
