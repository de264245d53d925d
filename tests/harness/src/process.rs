//! Processes of tests and benchmarks, which end with their owner, and what the kernel accounts for them.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};

/// Process that takes no commands.
#[derive(Debug)]
pub struct Silent(Child);

impl Silent {
    /// Starts it.
    pub fn start(name: &str, command: &mut Command) -> Result<Self> {
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Ok(Self(process.with_context(|| format!("cannot start {name}"))?))
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Usage of a process so far.
#[derive(Copy, Clone, Debug, Default)]
pub struct Usage {
    /// Resident memory, in bytes.
    pub rss: u64,
    /// Largest resident memory, in bytes.
    pub peak: u64,
    /// CPU time of all its threads.
    pub cpu: Duration,
}

impl Usage {
    /// Reads it; none for a process that has ended.
    pub fn from_pid(pid: u32) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let bytes = |name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
            Some(kib * 1_024)
        };
        Some(Self {
            rss: bytes("VmRSS:")?,
            peak: bytes("VmHWM:")?,
            cpu: cpu(pid)?,
        })
    }
}

/// CPU time of all living threads, in nanoseconds of the scheduler: the ticks of /proc/PID/stat are too coarse here.
fn cpu(pid: u32) -> Option<Duration> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let of_task = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    Some(Duration::from_nanos(tasks.flatten().filter_map(of_task).sum()))
}
