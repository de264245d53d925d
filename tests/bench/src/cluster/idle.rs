//! Idle memory of the processes of a control plane. It is read from `/proc`, so the node must be this machine; reading
//! more than their RSS needs root.

use std::{thread::sleep, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests_cluster::Cluster;

use super::{install::NAMESPACE, rows::Row};

/// Time after which the start no longer shows.
const SETTLE: Duration = Duration::from_secs(30);
/// Limit of the sum, in MiB.
const MOST: f64 = 60.0;
/// Upstream's figures, by the same names.
const UPSTREAM: [(&str, &str); 4] = [
    ("linkerd-destination", "56, 24 (policy), 48 (validator)"),
    ("linkerd-identity", "50"),
    ("linkerd-proxy-injector", "50"),
    ("sidecar", "22–23"),
];

/// Memory of a process, in MiB.
#[derive(Clone, Debug)]
struct Process {
    program: String,
    rss: f64,
    pss: f64,
    anonymous: f64,
}

/// Processes of the control plane.
pub(super) fn measure(cluster: &Cluster) -> Result<Vec<Row>> {
    sleep(SETTLE);
    let pods = cluster.try_kubectl(&["-n", NAMESPACE, "get", "pods", "-o", "json"]);
    let pods: Value = serde_json::from_str(&pods.map_err(anyhow::Error::msg)?)?;
    let mut rows = vec![];
    let mut all: Vec<Process> = vec![];
    for pod in pods["items"].as_array().into_iter().flatten() {
        let (meta, account) = (&pod["metadata"], pod["spec"]["serviceAccountName"].as_str());
        let (uid, account) = (meta["uid"].as_str().unwrap_or_default(), account.unwrap_or_default());
        for process in processes(uid) {
            let is_sidecar = process.program == "mesh-proxy";
            let name = if is_sidecar { "sidecar" } else { account };
            let upstream = UPSTREAM.iter().find(|(of, _)| *of == name).map(|(_, figure)| *figure);
            let figures = format!(
                "idle: {} of {account} (PSS {:.1}, anonymous {:.1})",
                process.program, process.pss, process.anonymous
            );
            rows.push(Row::new(figures, process.rss, "MiB RSS").upstream(upstream.unwrap_or_default()));
            all.push(process);
        }
    }
    ensure!(
        !all.is_empty(),
        "the node is not this machine: what its processes hold can only be read there"
    );
    let sum = |of: fn(&Process) -> f64| all.iter().map(of).sum::<f64>();
    let together = format!("idle: all {} together", all.len());
    rows.push(Row::new(together, sum(|p| p.rss), "MiB RSS").most(MOST).upstream("295"));
    rows.push(Row::new("idle: PSS", sum(|p| p.pss), "MiB").upstream("141"));
    rows.push(Row::new("idle: anonymous", sum(|p| p.anonymous), "MiB"));
    Ok(rows)
}

/// Processes of a pod on this machine.
fn processes(uid: &str) -> Vec<Process> {
    let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| process(pid, uid).ok().flatten()).collect()
}

fn process(pid: u32, uid: &str) -> Result<Option<Process>> {
    let file = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}"));
    // A group of a pod has its uid in its name, with dashes or, where systemd makes the groups, underscores.
    let group = file("cgroup")?.replace('_', "-");
    let line = file("cmdline")?;
    let program = line.split('\0').next().unwrap_or_default();
    let program = program.rsplit('/').next().unwrap_or_default();
    if uid.is_empty() || !group.contains(uid) || !program.starts_with("mesh-") {
        return Ok(None);
    }
    let rollup = file("smaps_rollup")?;
    let mib = |name: &str| value(&rollup, name).with_context(|| format!("smaps_rollup has no {name}"));
    Ok(Some(Process {
        program: program.to_owned(),
        rss: mib("Rss:")?,
        pss: mib("Pss:")?,
        anonymous: mib("Anonymous:")?,
    }))
}

/// Figure of smaps, in MiB.
fn value(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<f64>().ok()? / 1_024.0)
}

#[cfg(test)]
mod tests {
    use super::value;

    #[test]
    fn figures_are_found() {
        let text = "55d5-7ffc ---p 00000000 00:00 0 [rollup]\nRss:               10240 kB\nPss:                5120 kB\nPss_Anon: 1 kB\n";
        assert_eq!(
            (value(text, "Rss:"), value(text, "Pss:"), value(text, "Swap:")),
            (Some(10.0), Some(5.0), None)
        );
    }
}
