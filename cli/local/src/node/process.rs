//! Processes of pods: start in a pod's namespaces, signals to process groups, reaping of orphans, logs.

use std::{
    collections::HashSet,
    fs::{self, File},
    net::TcpListener,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{MetadataExt as _, PermissionsExt as _},
            process::CommandExt as _,
        },
    },
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use command_fds::{CommandFdExt as _, FdMapping};
use nix::{
    sys::{
        signal::{Signal, kill, killpg},
        wait::{Id, WaitPidFlag, waitid, waitpid},
    },
    unistd::Pid,
};

use crate::{plan::model::ContainerPlan, state::older_log};

/// Size at which a log is rotated; one older file is kept.
const LOG_BYTES: u64 = 8 * 1024 * 1024;
/// Log files that are kept, including those of removed pods.
const LOG_FILES: usize = 400;

/// Processes with an owner; any other child of process 1 is an orphan and reaped by [`Children::reap`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Children(Arc<Mutex<HashSet<i32>>>);

/// A started process and its process group.
#[derive(Debug)]
pub(crate) struct Child {
    process: tokio::process::Child,
    pid: i32,
    children: Children,
}

impl Children {
    /// Starts a command in its own process group.
    pub(crate) fn spawn(&self, mut command: Command) -> std::io::Result<Child> {
        command.process_group(0);
        // Held during the spawn, so that the process is known before it could be reaped.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let process = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
        let pid = process.id().map_or(0, u32::cast_signed);
        known.insert(pid);
        drop(known);
        Ok(Child {
            process,
            pid,
            children: self.clone(),
        })
    }

    /// Reaps orphans: processes that outlived their parents in a pod.
    pub(crate) fn reap(&self) {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        while let Ok(status) = waitid(Id::All, flags) {
            let Some(pid) = status.pid() else { return };
            if self
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(&pid.as_raw())
            {
                return;
            }
            let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
        }
    }
}

impl Child {
    /// PID in the supervisor's namespace.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.cast_unsigned()
    }

    /// Waits for the process to exit, and kills what it leaves in its group.
    pub(crate) async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        let status = self.process.wait().await;
        let _ = killpg(Pid::from_raw(self.pid), Signal::SIGKILL);
        status
    }

    /// Signals the process group.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.pid > 0 && self.process.id().is_some() {
            let _ = killpg(Pid::from_raw(self.pid), signal);
        }
    }

    /// Sends SIGTERM, and SIGKILL after the grace period.
    pub(crate) async fn stop(&mut self, grace: Duration) {
        self.signal(Signal::SIGTERM);
        if tokio::time::timeout(grace, self.process.wait()).await.is_err() {
            self.signal(Signal::SIGKILL);
            let _ = self.process.wait().await;
        }
    }

    /// Takes the piped standard streams.
    pub(crate) fn streams(&mut self) -> (Option<tokio::process::ChildStdin>, Option<tokio::process::ChildStdout>) {
        (self.process.stdin.take(), self.process.stdout.take())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        self.children
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.pid);
    }
}

/// A command in a pod.
pub(crate) struct InPod<'a> {
    /// PID of the pause process.
    pub(crate) pause_pid: u32,
    /// Container whose environment and working directory it gets.
    pub(crate) container: &'a ContainerPlan,
    pub(crate) argv: &'a [String],
    /// File for standard output and error.
    pub(crate) output: Option<File>,
    /// A listener that it inherits through the systemd protocol.
    pub(crate) listener: Option<TcpListener>,
}

/// Builds the command that enters the pod and runs the program.
pub(crate) fn command(run: InPod<'_>) -> Result<Command, String> {
    let (name, args) = run.argv.split_first().ok_or("the command is empty")?;
    let path = run
        .container
        .env
        .iter()
        .find(|(key, _)| key == "PATH")
        .map_or("", |(_, value)| value);
    let program = find(name, path, Path::new(&run.container.cwd))?;
    let mut command = Command::new("/proc/self/exe");
    command.args([
        "local",
        "internal",
        "container",
        "--pause-pid",
        &run.pause_pid.to_string(),
        "--cwd",
        &run.container.cwd,
    ]);
    command
        .arg("--")
        .arg(program)
        .args(args)
        .env_clear()
        .envs(run.container.env.iter().map(|(k, v)| (k, v)));
    command.stdin(Stdio::null());
    let stdio = |file: Option<&File>| {
        file.and_then(|file| file.try_clone().ok())
            .map_or_else(Stdio::null, Stdio::from)
    };
    command
        .stdout(stdio(run.output.as_ref()))
        .stderr(stdio(run.output.as_ref()));
    if let Some(listener) = run.listener {
        let mapping = FdMapping {
            parent_fd: OwnedFd::from(listener),
            child_fd: 3,
        };
        command
            .env("LISTEN_FDS", "1")
            .fd_mappings(vec![mapping])
            .map_err(|error| error.to_string())?;
    }
    Ok(command)
}

/// Finds a program as a shell would, with precise errors.
fn find(name: &str, path: &str, cwd: &Path) -> Result<PathBuf, String> {
    let runs =
        |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    if name.contains('/') {
        let file = cwd.join(name);
        return match fs::metadata(&file) {
            _ if runs(&file) => Ok(file),
            Ok(_) => Err(format!("command {name:?}: {} is not executable", file.display())),
            Err(_) => Err(format!("command {name:?}: no such file: {}", file.display())),
        };
    }
    let mut candidates = std::env::split_paths(path).map(|dir| dir.join(name));
    candidates
        .find(|file| runs(file))
        .ok_or_else(|| format!("command {name:?} is not on the PATH"))
}

/// Describes the exit of a process.
pub(crate) fn describe_exit(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "exited".to_owned(),
    }
}

/// Opens a container's log for appending.
pub(crate) fn open_log(path: &Path) -> std::io::Result<File> {
    File::options().create(true).append(true).open(path)
}

/// Keeps the size and number of logs within their limits.
pub(crate) fn limit_logs(dir: &Path) {
    let mut files: Vec<_> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let meta = entry.metadata().ok()?;
            Some((meta.mtime(), meta.len(), entry.path()))
        })
        .collect();
    for (_, length, path) in &files {
        if *length > LOG_BYTES && path.extension().is_some_and(|extension| extension == "log") {
            // Writers have it open for appending, so they continue at the start of the emptied file.
            let copied = fs::copy(path, older_log(path));
            let emptied = copied.and_then(|_| File::options().write(true).open(path)?.set_len(0));
            if let Err(error) = emptied {
                tracing::warn!(%error, path = %path.display(), "cannot rotate a log");
            }
        }
    }
    if files.len() > LOG_FILES {
        files.sort();
        for (_, _, path) in files.iter().take(files.len() - LOG_FILES) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Kills everything that is left in a pod's network namespace except its pause process.
pub(crate) fn sweep(pause_pid: u32) {
    let namespace = |pid: u32| fs::metadata(format!("/proc/{pid}/ns/net")).map(|meta| meta.ino()).ok();
    let Some(pod) = namespace(pause_pid) else { return };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids.filter(|pid| *pid != pause_pid && namespace(*pid) == Some(pod)) {
        let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_missing_program() {
        let missing = find("no-such-program", "/bin:/usr/bin", Path::new("/")).expect_err("not there");
        assert_eq!(missing, "command \"no-such-program\" is not on the PATH");
        let missing = find("./server", "", Path::new("/manifests")).expect_err("not there");
        assert!(missing.contains("/manifests/./server"), "{missing}");
        let plain = find("/etc/passwd", "", Path::new("/")).expect_err("not executable");
        assert!(plain.contains("not executable"), "{plain}");
        assert!(find("sh", "/bin:/usr/bin", Path::new("/")).is_ok());
    }

    #[test]
    fn rotates_a_full_log_under_its_writer() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a.log");
        let mut log = open_log(&path).expect("opened");
        log.set_len(LOG_BYTES + 1).expect("filled");
        limit_logs(dir.path());
        std::io::Write::write_all(&mut log, b"on").expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"on");
        assert_eq!(fs::metadata(older_log(&path)).expect("kept").len(), LOG_BYTES + 1);
    }
}
