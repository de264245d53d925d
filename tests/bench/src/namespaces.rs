//! Network namespaces, entered before a process has a second thread.

use std::{fs::File, os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context as _, Result, bail};
use nix::{
    sched::{CloneFlags, CpuSet, sched_setaffinity, setns, unshare},
    sys::{
        prctl::set_pdeathsig,
        resource::{Resource, getrlimit, setrlimit},
        signal::Signal,
    },
    unistd::{Pid, getegid, geteuid},
};

/// Makes a private network namespace; below a private user namespace when not root.
pub(crate) fn private() -> Result<()> {
    if geteuid().is_root() && unshare(CloneFlags::CLONE_NEWNET).is_ok() {
        return Ok(());
    }
    let (uid, gid) = (geteuid(), getegid());
    let hint = "this system forbids user namespaces to ordinary users; run it as root, or with --bare-only --loopback";
    unshare(CloneFlags::CLONE_NEWUSER).context(hint)?;
    std::fs::write("/proc/self/setgroups", "deny").context(hint)?;
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1")).context(hint)?;
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1")).context(hint)?;
    network()
}

/// Makes a network namespace.
pub(crate) fn network() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")
}

/// Keeps this process on one core, when the machine has more than one: sidecars on one, load and backend on another,
/// so that they do not take each other's time.
pub(crate) fn stay_on(core: usize) -> Result<()> {
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() > core) {
        let mut set = CpuSet::new();
        set.set(core)?;
        // A container may give other cores than the first; then the scheduler decides.
        let _ = sched_setaffinity(Pid::from_raw(0), &set);
    }
    Ok(())
}

/// Lets connections come and go by the thousand: ports whose last connection has just ended may be used again, and this
/// process may have as many files as the system allows.
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
    /// Process in whose network namespace the command runs; 0 is our own.
    #[arg(long)]
    pid: u32,
    /// Core that it stays on; none leaves it to the scheduler.
    #[arg(long)]
    core: Option<usize>,
    /// The command.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<String>,
}

/// Becomes the command, in another process's network namespace.
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
