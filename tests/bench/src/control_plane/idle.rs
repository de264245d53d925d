//! What control-plane processes on this machine hold: those of a cluster whose node it is. Needs root to tell whose sidecar
//! a mesh-proxy is.

use serde::Serialize;

use super::program::rss;

/// The programs of a control plane.
const PROGRAMS: [&str; 3] = ["mesh-destination", "mesh-identity", "mesh-injector"];

/// A process.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Process {
    /// Which program, and beside which one.
    pub(crate) name: String,
    /// Its number.
    pub(crate) pid: u32,
    /// Resident memory.
    pub(crate) mib: f64,
}

/// The processes of control planes that run in pods here.
pub(crate) fn processes() -> Vec<Process> {
    let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut found: Vec<Process> = pids.filter_map(process).collect();
    found.sort_by(|a, b| a.name.cmp(&b.name).then(a.pid.cmp(&b.pid)));
    found
}

fn process(pid: u32) -> Option<Process> {
    let file = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).ok();
    // A kubelet's pods are in a group of theirs.
    let group = String::from_utf8(file("cgroup")?).ok()?;
    if !group.contains("kubepods") {
        return None;
    }
    let line = file("cmdline")?;
    let program = line.split(|byte| *byte == 0).next()?;
    let program = std::str::from_utf8(program).ok()?.rsplit('/').next()?;
    let name = if PROGRAMS.contains(&program) {
        program.to_owned()
    } else if program == "mesh-proxy" {
        let environment = file("environ")?;
        let mut all = environment
            .split(|byte| *byte == 0)
            .filter_map(|var| std::str::from_utf8(var).ok());
        let own = all.find_map(|var| var.strip_prefix("LINKERD2_PROXY_IDENTITY_LOCAL_NAME="))?;
        let account = own.split('.').next()?;
        if !account.starts_with("linkerd-") {
            return None;
        }
        format!("mesh-proxy of {account}")
    } else {
        return None;
    };
    let mib = rss(pid)? as f64 / 1_048_576.0;
    Some(Process { name, pid, mib })
}
