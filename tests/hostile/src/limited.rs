//! A program under a memory limit: a cgroup of version 2 where one can be made, else a limit of the process's data.

use std::{
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use anyhow::{Context as _, Result, bail};
use nix::sys::{
    prctl::set_pdeathsig,
    resource::{Resource, setrlimit},
    signal::Signal,
};

/// Memory limit of each program, that of the charts.
pub const MEMORY: u64 = 250 << 20;

/// Arguments of `enter`.
#[derive(Debug, clap::Args)]
pub struct Enter {
    /// Bytes of writable memory
    #[arg(long)]
    memory: Option<u64>,
    /// Open files
    #[arg(long)]
    files: Option<u64>,
    /// Cgroup
    #[arg(long)]
    cgroup: Option<PathBuf>,
    /// Command
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<String>,
}

/// Executes the command under its limits.
pub fn enter(args: &Enter) -> Result<()> {
    if let Some(cgroup) = &args.cgroup {
        std::fs::write(cgroup.join("cgroup.procs"), "0").context("cannot enter the cgroup")?;
    }
    for (limit, value) in [
        (Resource::RLIMIT_DATA, args.memory),
        (Resource::RLIMIT_NOFILE, args.files),
    ] {
        if let Some(value) = value {
            setrlimit(limit, value, value)?;
        }
    }
    // Whatever ends the suite ends its programs too.
    set_pdeathsig(Signal::SIGKILL)?;
    let Some((program, arguments)) = args.command.split_first() else {
        bail!("no command")
    };
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {program}"))
}

/// Makes commands under limits, by this suite's own program.
#[derive(Clone, Debug)]
pub struct Limiter {
    /// Path of `mesh-hostile`.
    pub myself: PathBuf,
}

/// Place under a limit, removed when dropped.
#[derive(Debug)]
pub struct Cage(Option<PathBuf>);

impl Drop for Cage {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // Its process may take a moment to be gone; the directory costs nothing.
            let _ = std::fs::remove_dir(path);
        }
    }
}

impl Limiter {
    /// Command that runs `program` under [`MEMORY`] and so many open files.
    pub fn command(&self, program: &Path, files: Option<u64>) -> (Command, Cage) {
        let cage = cgroup();
        let mut command = Command::new(&self.myself);
        command.arg("enter");
        match &cage {
            Some(path) => command.arg("--cgroup").arg(path),
            None => command.args(["--memory", &MEMORY.to_string()]),
        };
        if let Some(files) = files {
            command.args(["--files", &files.to_string()]);
        }
        command.arg("--").arg(program);
        (command, Cage(cage))
    }

    /// Kind of the limit, for people.
    pub fn kind() -> &'static str {
        match Cage(cgroup()).0 {
            Some(_) => "cgroup memory.max",
            None => "RLIMIT_DATA (no cgroup of version 2 with a memory controller is writable here)",
        }
    }
}

fn cgroup() -> Option<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let root = Path::new("/sys/fs/cgroup");
    let controllers = std::fs::read_to_string(root.join("cgroup.subtree_control")).ok()?;
    if !controllers.split_whitespace().any(|name| name == "memory") {
        return None;
    }
    let number = COUNT.fetch_add(1, Relaxed);
    let path = root.join(format!("mesh-hostile-{}-{number}", std::process::id()));
    std::fs::create_dir(&path).ok()?;
    let limited = std::fs::write(path.join("memory.max"), MEMORY.to_string());
    if limited.is_err() {
        let _ = std::fs::remove_dir(&path);
    }
    limited.ok().map(|()| path)
}
