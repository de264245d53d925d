//! Process of mesh-destination and its usage.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tokio::time::sleep;

use super::api::Api;
use crate::child::Silent;

/// Timeout of its readiness.
const PATIENCE: Duration = Duration::from_secs(20);

/// Running program.
pub(crate) struct Program {
    process: Silent,
    pub(crate) destination: SocketAddr,
    pub(crate) policy: SocketAddr,
    admin: SocketAddr,
    _files: tempfile::TempDir,
}

/// Usage of a process so far.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Usage {
    /// Resident memory, in bytes.
    pub(crate) rss: u64,
    /// CPU time of all its threads.
    pub(crate) cpu: Duration,
}

impl Program {
    /// Starts it with `api` as its API server and waits until it is ready.
    pub(crate) async fn start(path: &Path, api: &Api) -> Result<Self> {
        let files = tempfile::tempdir()?;
        let kubeconfig = files.path().join("kubeconfig");
        let text = format!(
            "{{apiVersion: v1, kind: Config, current-context: c, contexts: [{{name: c, context: {{cluster: c, user: u}}}}], \
             clusters: [{{name: c, cluster: {{server: 'http://{}'}}}}], users: [{{name: u, user: {{}}}}]}}",
            api.addr
        );
        std::fs::write(&kubeconfig, text)?;
        let (destination, policy, admin) = (free()?, free()?, free()?);
        let mut command = Command::new(path);
        command
            .arg("--kubernetes")
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .args(["--destination-addr", &destination.to_string()])
            .args(["--policy-addr", &policy.to_string()])
            .args(["--admin-addr", &admin.to_string()])
            .env("MESH_LOG", "warn");
        let process = Silent::start(&format!("{}", path.display()), &mut command)?;
        let program = Self {
            process,
            destination,
            policy,
            admin,
            _files: files,
        };
        let begun = Instant::now();
        while !program.is_ready() {
            if begun.elapsed() > PATIENCE {
                bail!("mesh-destination is not ready after {PATIENCE:?}");
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(program)
    }

    fn is_ready(&self) -> bool {
        let ask = || -> std::io::Result<String> {
            let mut io = TcpStream::connect_timeout(&self.admin, Duration::from_millis(200))?;
            io.set_read_timeout(Some(Duration::from_millis(500)))?;
            io.write_all(b"GET /ready HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")?;
            let mut answer = String::new();
            io.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    pub(crate) fn usage(&self) -> Result<Usage> {
        let pid = self.process.pid();
        Ok(Usage {
            rss: rss(pid).context("the program has ended")?,
            cpu: cpu(pid).context("the program has ended")?,
        })
    }
}

fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Resident memory of a process.
fn rss(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1_024)
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
