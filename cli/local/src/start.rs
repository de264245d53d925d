//! Starting and holding a mesh, shared by `mesh local up` and `mesh demo`.

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use command_fds::{CommandFdExt as _, FdMapping};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use super::{
    control::{self, Request},
    manifests::Manifests,
    state::{self, Lock, Process, State},
};

/// Reports that wait for the holder of the mesh; further ones are dropped.
const REPORTS: usize = 1024;
/// Lines of the supervisor's stderr that are kept to explain its exit.
const STDERR_LINES: usize = 20;
/// Parameters of a mesh.
pub struct StartOptions<P> {
    /// Name of the mesh.
    pub name: String,
    /// Source of the manifests.
    pub manifests: Manifests,
    /// Port of the viz API on the host's loopback; 0 takes a free one.
    pub viz_port: u16,
    /// Run control plane and sidecars.
    pub mesh: bool,
    /// Receives the progress of the start.
    pub progress: P,
}

/// Progress of a start, or a later event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Progress {
    /// Number of ready pods, and the workloads that are not.
    Pods {
        /// Ready pods.
        ready: usize,
        /// Desired pods.
        total: usize,
        /// Workloads that are not ready.
        waiting: Vec<String>,
    },
    /// A message for the user: a refused manifest, a container that exited.
    Note(String),
}

/// A report of the supervisor on its standard output, one line of JSON each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Report {
    /// Progress.
    Progress(Progress),
    /// All pods of the first set of manifests are ready.
    Ready,
    /// The start has failed.
    Failed(String),
}

/// Specification of a mesh, on the supervisor's command line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MeshSpec {
    /// State directory.
    pub(super) dir: PathBuf,
    /// The user's manifests.
    pub(super) manifests: PathBuf,
    /// Run control plane and sidecars.
    pub(super) mesh: bool,
    /// Default working directory of containers.
    pub(super) cwd: PathBuf,
    /// Path of the program `mesh`.
    pub(super) program: PathBuf,
}

/// A mesh that runs as long as this value is held.
pub struct Running {
    state: State,
    child: Child,
    // Closing it stops the supervisor, and with it everything.
    lifeline: Option<ChildStdin>,
    reports: mpsc::Receiver<Report>,
    stderr: Option<std::thread::JoinHandle<String>>,
    lock: Option<Lock>,
}

/// Result of a command in a pod.
#[derive(Debug)]
pub struct ExecOutput {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a command in a pod of the mesh named `mesh`, and returns its output.
pub fn exec(mesh: &str, pod: &str, argv: &[&str]) -> Result<ExecOutput> {
    let program = std::env::current_exe().context("cannot find the program's own path")?;
    let mut command = Command::new(program);
    command
        .args(["local", "exec", "--name", mesh, pod, "--"])
        .args(argv)
        .stdin(Stdio::null());
    let output = command.output().context("cannot start `mesh local exec`")?;
    Ok(ExecOutput {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Starts a mesh and returns when all its pods are ready.
pub(crate) fn start<P: FnMut(Progress)>(options: StartOptions<P>) -> Result<Running> {
    let mut progress = options.progress;
    let program = std::env::current_exe().context("cannot find the program's own path")?;
    let (dir, lock) = state::take(&options.name)?;
    let supervised = options.manifests.place(&dir).and_then(|folder| {
        let spec = MeshSpec {
            dir: dir.clone(),
            manifests: folder.path,
            cwd: folder.cwd,
            mesh: options.mesh,
            program,
        };
        supervise(spec, options.name, options.viz_port, folder.temporary)
    });
    let mut running = match supervised {
        Ok(running) => running,
        Err(error) => {
            state::remove(&dir, lock);
            return Err(error);
        }
    };
    running.lock = Some(lock);
    loop {
        match running.reports.recv() {
            Ok(Report::Progress(step)) => progress(step),
            Ok(Report::Ready) => return Ok(running),
            Ok(Report::Failed(sentence)) => bail!(sentence),
            Err(_) if running.child.wait()?.success() => bail!("the mesh was stopped before it was up"),
            Err(_) => bail!(running.exit_reason()),
        }
    }
}

/// Starts the supervisor of a locked state directory.
fn supervise(spec: MeshSpec, name: String, viz_port: u16, temporary: bool) -> Result<Running> {
    let listener = bind(viz_port)?;
    state::write_viz_token(&spec.dir)?;
    let viz = listener.local_addr()?;
    let mut child = spawn(&spec, listener)?;
    let lifeline = child.stdin.take();
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    let stderr = child.stderr.take().expect("piped");
    let stderr = std::thread::spawn(move || last_lines(BufReader::new(stderr)));

    let mut first = String::new();
    lines.read_line(&mut first)?;
    let supervisor = first.trim().parse().ok().and_then(Process::find);
    let outer = Process::find(std::process::id().cast_signed()).expect("this process runs");
    let Some(supervisor) = supervisor else {
        let _ = child.wait();
        bail!("{}", explain_exit(stderr));
    };
    let state = State {
        name,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        dir: spec.dir,
        viz,
        manifests: spec.manifests,
        temporary,
        outer,
        supervisor,
    };
    state.write()?;
    Ok(Running {
        state,
        child,
        lifeline,
        reports: read_reports(lines),
        stderr: Some(stderr),
        lock: None,
    })
}

fn bind(port: u16) -> Result<TcpListener> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(address).with_context(|| {
        format!("--viz-port {port}: cannot listen on {address}; choose another port, or 0 for any that is free")
    })
}

fn spawn(spec: &MeshSpec, listener: TcpListener) -> Result<Child> {
    let spec = serde_json::to_string(spec).expect("plain values");
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("mesh")
        .args(["local", "internal", "enter", &spec])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env("LISTEN_FDS", "1")
        .env_remove("LISTEN_PID")
        // A process group of its own: Ctrl-C in the terminal is for the outer process alone.
        .process_group(0)
        .fd_mappings(vec![FdMapping {
            parent_fd: OwnedFd::from(listener),
            child_fd: 3,
        }])
        .expect("one mapping");
    command.spawn().context("cannot start the supervisor")
}

fn read_reports(lines: BufReader<ChildStdout>) -> mpsc::Receiver<Report> {
    let (sender, receiver) = mpsc::sync_channel(REPORTS);
    std::thread::spawn(move || {
        for line in lines.lines().map_while(Result::ok) {
            // A line that is not a report is part of an error; the exit reports that.
            if let Ok(report) = serde_json::from_str(&line)
                && let Err(mpsc::TrySendError::Disconnected(_)) = sender.try_send(report)
            {
                break;
            }
        }
    });
    receiver
}

fn last_lines(stderr: impl std::io::BufRead) -> String {
    let mut kept = VecDeque::new();
    for line in stderr.lines().map_while(Result::ok) {
        kept.push_back(line);
        if kept.len() > STDERR_LINES {
            kept.pop_front();
        }
    }
    Vec::from(kept).join("\n")
}

fn explain_exit(stderr: std::thread::JoinHandle<String>) -> String {
    let text = stderr.join().unwrap_or_default();
    let text = text.trim().trim_start_matches("mesh: ");
    if text.is_empty() {
        "the supervisor exited without an error message".to_owned()
    } else {
        text.to_owned()
    }
}

impl Running {
    /// State of the mesh: name, directory, addresses, processes.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Waits for the next event; `None` if there is none in that time. An error means that the mesh has stopped.
    pub fn next(&self, wait: Duration) -> Result<Option<Progress>> {
        match self.reports.recv_timeout(wait) {
            Ok(Report::Progress(progress)) => Ok(Some(progress)),
            Ok(Report::Failed(sentence)) => bail!(sentence),
            Ok(Report::Ready) | Err(mpsc::RecvTimeoutError::Timeout) => Ok(None),
            Err(mpsc::RecvTimeoutError::Disconnected) => bail!("the mesh has stopped"),
        }
    }

    /// Requests an orderly shutdown, with grace periods; [`Running::next`] then fails when it is complete.
    pub fn request_shutdown(&self) -> Result<()> {
        control::ask(&self.state.control(), &Request::Shutdown)
    }

    /// Kills the mesh.
    pub fn kill(&mut self) {
        drop(self.lifeline.take());
        if self.state.supervisor.is_alive() {
            let _ = kill(Pid::from_raw(self.state.supervisor.pid), Signal::SIGKILL);
        }
        let _ = self.child.wait();
        if let Some(lock) = self.lock.take() {
            state::remove(&self.state.dir, lock);
        }
    }

    /// Waits for the exit of the mesh; an error unless the shutdown was orderly.
    pub fn outcome(mut self) -> Result<()> {
        if self.child.wait()?.success() {
            return Ok(());
        }
        bail!("the mesh has stopped: {}", self.exit_reason())
    }

    fn exit_reason(&mut self) -> String {
        let _ = self.child.wait();
        self.stderr.take().map(explain_exit).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.lock.is_some() {
            self.kill();
        }
    }
}
