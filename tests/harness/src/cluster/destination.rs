//! Process of mesh-destination and its usage.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tokio::time::sleep;

use super::{api::Api, webhook::free};
use crate::process::{Silent, Usage};

/// Timeout of its readiness.
const PATIENCE: Duration = Duration::from_secs(20);

/// Running program.
pub struct Program {
    process: Silent,
    /// Address of `Destination`.
    pub destination: SocketAddr,
    /// Address of the policy APIs.
    pub policy: SocketAddr,
    /// Address of its admin server.
    pub admin: SocketAddr,
    _files: tempfile::TempDir,
}

impl Program {
    /// Starts it with `api` as its API server and waits until it is ready.
    pub async fn start(path: &Path, api: &Api) -> Result<Self> {
        Self::start_with(Command::new(path), api).await
    }

    /// The same for a command that ends with the program.
    pub async fn start_with(mut command: Command, api: &Api) -> Result<Self> {
        let files = tempfile::tempdir()?;
        let kubeconfig = api.kubeconfig(files.path())?;
        let (destination, policy, admin) = (free()?, free()?, free()?);
        command
            .arg("--kubernetes")
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .args(["--destination-addr", &destination.to_string()])
            .args(["--policy-addr", &policy.to_string()])
            .args(["--admin-addr", &admin.to_string()])
            .env("MESH_LOG", "warn");
        let process = Silent::start("mesh-destination", &mut command)?;
        let program = Self {
            process,
            destination,
            policy,
            admin,
            _files: files,
        };
        ready(program.admin).await?;
        Ok(program)
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Usage so far.
    pub fn usage(&self) -> Result<Usage> {
        Usage::from_pid(self.process.pid()).context("the program has ended")
    }
}

/// Waits until the program with this admin server is ready.
pub async fn ready(admin: SocketAddr) -> Result<()> {
    let begun = Instant::now();
    while !is_ready(admin) {
        if begun.elapsed() > PATIENCE {
            bail!("the program with the admin server {admin} is not ready after {PATIENCE:?}");
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn is_ready(admin: SocketAddr) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut io = TcpStream::connect_timeout(&admin, Duration::from_millis(200))?;
        io.set_read_timeout(Some(Duration::from_millis(500)))?;
        io.write_all(b"GET /ready HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        io.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}
