//! Time of an installation by the commands of the README.

use std::time::Instant;

use anyhow::{Result, bail};
use tests_cluster::{Cluster, readme, say};

use super::rows::{Row, quantile};

/// Namespace of the control plane.
pub(super) const NAMESPACE: &str = "linkerd";

/// Times of installations, in seconds.
pub(super) struct Installed {
    available: Vec<f64>,
    green: Vec<f64>,
}

impl Installed {
    pub(super) fn rows(&self) -> Vec<Row> {
        let median = |values: &[f64]| quantile(values.to_vec(), 0.5);
        vec![
            Row::new("install applied → all Available", median(&self.available), "s")
                .most(6.0)
                .upstream("10.6–12.1"),
            Row::new("install applied → check green", median(&self.green), "s")
                .most(7.0)
                .upstream("13.7–15.3"),
        ]
    }
}

/// Installs a number of times; the last installation stays.
pub(super) fn install(cluster: &Cluster, times: usize) -> Result<Installed> {
    if cluster.try_kubectl(&["get", "namespace", NAMESPACE]).is_ok() {
        bail!("there is a namespace {NAMESPACE} already: only a mesh that is installed here can be measured");
    }
    let mut installed = Installed {
        available: vec![],
        green: vec![],
    };
    for time in 0..times.max(1) {
        if time > 0 {
            uninstall(cluster)?;
        }
        shell(cluster, "crds")?;
        let begun = Instant::now();
        shell(cluster, "install")?;
        let wait = [
            "-n",
            NAMESPACE,
            "wait",
            "deployments",
            "--all",
            "--for=condition=Available",
            "--timeout=120s",
        ];
        cluster.try_kubectl(&wait).map_err(anyhow::Error::msg)?;
        installed.available.push(begun.elapsed().as_secs_f64());
        shell(cluster, "check")?;
        installed.green.push(begun.elapsed().as_secs_f64());
        say(&format!(
            "installed: Available after {:.1} s, checked after {:.1} s",
            installed.available[time], installed.green[time]
        ));
    }
    Ok(installed)
}

/// Uninstalls the mesh.
pub(super) fn uninstall(cluster: &Cluster) -> Result<()> {
    run(cluster, "mesh uninstall | kubectl delete -f -")
}

/// Runs a block of the README.
fn shell(cluster: &Cluster, block: &str) -> Result<()> {
    run(cluster, &readme::block(block).map_err(anyhow::Error::msg)?)
}

fn run(cluster: &Cluster, lines: &str) -> Result<()> {
    cluster.shell(lines).map(|_| ()).map_err(anyhow::Error::msg)
}
