//! CPU time and memory of a process, as the kernel accounts for them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// CPU time, in microseconds.
#[derive(Copy, Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Cpu {
    /// In the program.
    pub(crate) user_us: f64,
    /// In the kernel, for the program.
    pub(crate) system_us: f64,
}

impl Cpu {
    /// Reads the usage of a process with all its threads. The kernel counts in ticks of 10 ms, so measurements should
    /// be seconds long.
    pub(crate) fn read(pid: u32) -> Result<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("a sidecar has ended")?;
        parse(&text).context("/proc/PID/stat is not as expected")
    }

    /// Usage since `earlier`, per request.
    pub(crate) fn each(self, earlier: Self, requests: u64) -> Self {
        let requests = requests.max(1) as f64;
        Self {
            user_us: (self.user_us - earlier.user_us) / requests,
            system_us: (self.system_us - earlier.system_us) / requests,
        }
    }

    /// Sum of both.
    pub(crate) fn total_us(self) -> f64 {
        self.user_us + self.system_us
    }
}

/// Number of descriptors that each runtime of a process waits for, largest first.
pub(crate) fn sockets(pid: u32) -> Result<Vec<f64>> {
    // A runtime has its epoll instance twice; what it waited for first tells that they are the same.
    let mut by_first = BTreeMap::new();
    for descriptor in std::fs::read_dir(format!("/proc/{pid}/fdinfo")).context("a sidecar has ended")? {
        // It may have been closed meanwhile.
        let text = std::fs::read_to_string(descriptor?.path()).unwrap_or_default();
        by_first.extend(waited_for(&text));
    }
    let mut counts: Vec<f64> = by_first.into_values().collect();
    counts.sort_by(|a, b| b.total_cmp(a));
    Ok(counts)
}

/// Lowest descriptor and number of descriptors of an epoll instance; none for other files.
fn waited_for(fdinfo: &str) -> Option<(u32, f64)> {
    let lines = fdinfo.lines().filter_map(|line| line.strip_prefix("tfd:"));
    let mut descriptors: Vec<u32> = lines
        .filter_map(|rest| rest.split_whitespace().next()?.parse().ok())
        .collect();
    descriptors.sort_unstable();
    Some((*descriptors.first()?, descriptors.len() as f64))
}

/// Resident memory of a process, in bytes.
pub(crate) fn memory(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).context("a sidecar has ended")?;
    resident(&text).context("/proc/PID/status is not as expected")
}

fn resident(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024.0)
}

/// Fields after the name, which may itself contain blanks and parentheses; 14 and 15 are user and system time.
fn parse(stat: &str) -> Option<Cpu> {
    // USER_HZ is 100 on every Linux that the ABI knows.
    const TICK_US: f64 = 10_000.0;
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let (user, system) = (ticks()?, ticks()?);
    Some(Cpu {
        user_us: user as f64 * TICK_US,
        system_us: system as f64 * TICK_US,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 250 75 0 0 20 0 3 0 1234 1 2";
        let cpu = parse(stat).expect("well formed");
        assert_eq!(
            cpu,
            Cpu {
                user_us: 2_500_000.0,
                system_us: 750_000.0
            }
        );
        assert_eq!(cpu.each(Cpu::default(), 1_000).total_us(), 3_250.0);
        assert_eq!(parse("nonsense"), None);
        assert!(Cpu::read(std::process::id()).is_ok());
    }

    #[test]
    fn counts_descriptors_of_runtimes() {
        let epoll =
            "pos:\t0\nflags:\t02000002\ntfd:       12 events: 80000019 data:  ff\ntfd:        8 events: 19 data: 1\n";
        assert_eq!(waited_for(epoll), Some((8, 2.0)));
        assert_eq!(waited_for("pos:\t0\nflags:\t02\n"), None);
        let busy = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime");
            let listen = tokio::net::TcpListener::bind("127.0.0.1:0");
            let listener = runtime.block_on(listen).expect("a listener");
            (runtime, listener)
        };
        let _both = (busy(), busy());
        let counts = sockets(std::process::id()).expect("readable");
        assert!(counts.len() >= 2 && counts[1] >= 2.0, "{counts:?}");
    }

    #[test]
    fn memory_is_found() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t    8192 kB\n"), Some(8_388_608.0));
        assert!(memory(std::process::id()).is_ok_and(|bytes| bytes > 100_000.0));
    }
}
