//! What a process uses, as the kernel accounts for it: CPU time, and memory.

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
    /// What a process and all its threads have used so far. The kernel counts in ticks of 10 ms, so that measurements
    /// should be seconds long.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("a sidecar has ended")?;
        parse(&text).context("/proc/PID/stat is not as expected")
    }

    /// What was used since `earlier`, for each of `requests`.
    pub(crate) fn each(self, earlier: Self, requests: u64) -> Self {
        let requests = requests.max(1) as f64;
        Self {
            user_us: (self.user_us - earlier.user_us) / requests,
            system_us: (self.system_us - earlier.system_us) / requests,
        }
    }

    /// Both.
    pub(crate) fn total_us(self) -> f64 {
        self.user_us + self.system_us
    }
}

/// CPU time of each worker of a sidecar so far, in microseconds.
pub(crate) fn workers(pid: u32) -> Result<Vec<f64>> {
    let mut used = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).context("a sidecar has ended")? {
        let text = std::fs::read_to_string(task?.path().join("stat"))?;
        if text.contains("(worker-") {
            used.push(parse(&text).context("/proc/PID/stat is not as expected")?.total_us());
        }
    }
    Ok(used)
}

/// Memory that a process has now (RSS), in bytes.
pub(crate) fn memory(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).context("a sidecar has ended")?;
    resident(&text).context("/proc/PID/status is not as expected")
}

fn resident(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024.0)
}

/// The fields after the name, which may itself hold blanks and parentheses; 14 and 15 are user and system time.
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
        assert!(Cpu::of(std::process::id()).is_ok());
    }

    #[test]
    fn memory_is_found() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t    8192 kB\n"), Some(8_388_608.0));
        assert!(memory(std::process::id()).is_ok_and(|bytes| bytes > 100_000.0));
    }
}
