//! Starts a mesh and holds it: what `mesh local up` and `mesh demo` share.

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::{Path, PathBuf},
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
    state::{self, Lock, Process, State},
};

/// Reports that wait for whoever holds the mesh; further ones are dropped, since nothing waits for them.
const REPORTS: usize = 1024;
/// Lines of the supervisor's stderr that are kept to explain an end.
const STDERR_LINES: usize = 20;
/// What to start.
pub struct StartOptions<P> {
    /// Its name.
    pub name: String,
    /// Folder of manifests.
    pub dir: PathBuf,
    /// Port of the viz API on the host's loopback; 0 takes a free one.
    pub viz_port: u16,
    /// Whether control plane and sidecars run.
    pub mesh: bool,
    /// Told how the start goes on.
    pub progress: P,
}

/// How a start goes on, or what happens later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Progress {
    /// So many pods are ready; these are not.
    Pods {
        /// Pods that are ready.
        ready: usize,
        /// All pods that should be.
        total: usize,
        /// Names of the others, with what they do.
        waiting: Vec<String>,
    },
    /// Something a person should know: a refused manifest, a container that ended.
    Note(String),
}

/// What the supervisor says on its standard output, a line each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Report {
    /// Goes on.
    Progress(Progress),
    /// All pods of the first set of manifests are ready.
    Ready,
    /// It cannot go on.
    Failed(String),
}

/// What the supervisor is told on its command line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    /// The state directory.
    pub(super) dir: PathBuf,
    /// The user's manifests.
    pub(super) manifests: PathBuf,
    /// Whether control plane and sidecars run.
    pub(super) mesh: bool,
    /// The program `mesh` itself, by path.
    pub(super) program: PathBuf,
}

/// A mesh that runs as long as this is held.
pub struct Running {
    state: State,
    child: Child,
    // Closing it ends the supervisor, and with it everything.
    lifeline: Option<ChildStdin>,
    reports: mpsc::Receiver<Report>,
    stderr: Option<std::thread::JoinHandle<String>>,
    lock: Option<Lock>,
}

/// What a command in a pod printed, and how it ended.
#[derive(Debug)]
pub struct ExecOutput {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Runs a command in a pod of the mesh of that name, and returns what it printed.
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

/// Starts a mesh, and returns when all its pods are ready.
pub(crate) fn start<P: FnMut(Progress)>(options: StartOptions<P>) -> Result<Running> {
    let mut progress = options.progress;
    let manifests = folder(&options.dir)?;
    let program = std::env::current_exe().context("cannot find the program's own path")?;
    let (dir, lock) = state::take(&options.name)?;
    let supervised = supervise(
        Spec {
            dir: dir.clone(),
            manifests,
            mesh: options.mesh,
            program,
        },
        options.name,
        options.viz_port,
    );
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
            Err(_) => bail!(running.ended()),
        }
    }
}

fn folder(dir: &Path) -> Result<PathBuf> {
    let found = dir.canonicalize().with_context(|| format!("-f {}", dir.display()))?;
    if !found.is_dir() {
        bail!(
            "-f {}: this is no directory; manifests are read from a directory",
            dir.display()
        );
    }
    Ok(found)
}

/// Starts the supervisor of a state directory that is taken.
fn supervise(spec: Spec, name: String, viz_port: u16) -> Result<Running> {
    let listener = bind(viz_port)?;
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
        bail!("{}", explain_end(stderr));
    };
    let state = State {
        name,
        dir: spec.dir,
        viz,
        manifests: spec.manifests,
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

fn spawn(spec: &Spec, listener: TcpListener) -> Result<Child> {
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
        // A group of its own: Ctrl-C in the terminal is for the outer process alone.
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
            // What is no report is an error's text on the way down; the end is what tells of it.
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

fn explain_end(stderr: std::thread::JoinHandle<String>) -> String {
    let text = stderr.join().unwrap_or_default();
    let text = text.trim().trim_start_matches("mesh: ");
    if text.is_empty() {
        "the supervisor ended without a word".to_owned()
    } else {
        text.to_owned()
    }
}

impl Running {
    /// Name, directory, addresses, processes.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The next thing that happens, or `None` when nothing did in that time. An error is the mesh's own end.
    pub fn next(&self, wait: Duration) -> Result<Option<Progress>> {
        match self.reports.recv_timeout(wait) {
            Ok(Report::Progress(progress)) => Ok(Some(progress)),
            Ok(Report::Failed(sentence)) => bail!(sentence),
            Ok(Report::Ready) | Err(mpsc::RecvTimeoutError::Timeout) => Ok(None),
            Err(mpsc::RecvTimeoutError::Disconnected) => bail!("the mesh ended"),
        }
    }

    /// Asks for an orderly end: pods get their grace period. Whoever waits sees it in [`Running::next`].
    pub fn ask_to_end(&self) -> Result<()> {
        control::ask(&self.state.control(), &Request::Shutdown)
    }

    /// Ends it now.
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

    /// How it ended: in order, or why not.
    pub fn outcome(mut self) -> Result<()> {
        if self.child.wait()?.success() {
            return Ok(());
        }
        bail!("the mesh ended: {}", self.ended())
    }

    fn ended(&mut self) -> String {
        let _ = self.child.wait();
        self.stderr.take().map(explain_end).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.lock.is_some() {
            self.kill();
        }
    }
}
