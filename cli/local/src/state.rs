//! The state directory, through which commands in other terminals find a running mesh.
//!
//! `$XDG_RUNTIME_DIR/mesh/NAME`, else `/tmp/mesh-UID/NAME`. The outer process of `up` holds a lock in it while it runs;
//! so a directory whose lock is free was left behind by a crash and may be cleaned up.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use destination_k8s::keys;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::control::{self, PodDetails, PodStatus, Request};

/// Default name of a mesh.
pub const DEFAULT_NAME: &str = "default";
/// Longest name: the path of the control socket is limited to 108 bytes.
const NAME_MAX: usize = 32;

/// A running mesh according to its state file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// Name.
    pub name: String,
    /// Version of the `mesh` that started it, and of the programs that it runs.
    #[serde(default)]
    pub version: String,
    /// Directory of the state file.
    #[serde(skip)]
    pub dir: PathBuf,
    /// Address of the viz API on the host's loopback.
    pub viz: SocketAddr,
    /// Folder of manifests.
    pub manifests: PathBuf,
    /// The folder of manifests is removed with the mesh.
    #[serde(default)]
    pub temporary: bool,
    /// The process that started it: `mesh local up` or `mesh demo`.
    pub outer: Process,
    /// Process 1 of its namespaces, by its PID on the host.
    pub supervisor: Process,
}

/// A process, distinguished by its start time from a later one with the same PID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// PID.
    pub pid: i32,
    /// Start time, in the kernel's ticks since boot.
    pub started: u64,
}

impl Process {
    /// The process that has this PID now.
    pub fn find(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the command in parentheses, which may contain anything: count from the last one. The
        // state is field 3, the start time field 22.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        let started = fields.nth(18)?.parse().ok()?;
        (state != "Z" && state != "X").then_some(Self { pid, started })
    }

    /// Returns true while it runs.
    pub fn is_alive(self) -> bool {
        Self::find(self.pid) == Some(self)
    }
}

impl State {
    /// Finds the running mesh of that name; without a name `default`, else the only one.
    pub fn find(name: Option<&str>) -> Result<Self> {
        let Some(name) = name else {
            return Self::find_any();
        };
        check_name(name)?;
        let running = Self::read(&dir(name)).ok().filter(|state| state.supervisor.is_alive());
        running.with_context(|| {
            format!("no mesh named {name:?} is running; start one with `mesh local up -f DIR --name {name}`")
        })
    }

    fn find_any() -> Result<Self> {
        let mut running = Self::running();
        if let Some(at) = running.iter().position(|state| state.name == DEFAULT_NAME) {
            return Ok(running.swap_remove(at));
        }
        match running.len() {
            0 => bail!("no mesh is running; start one with `mesh demo` or `mesh local up -f DIR`"),
            1 => Ok(running.swap_remove(0)),
            _ => {
                let names: Vec<_> = running.iter().map(|state| state.name.as_str()).collect();
                bail!(
                    "several meshes are running: {}; choose one with --name",
                    names.join(", ")
                )
            }
        }
    }

    /// All running meshes, sorted by name.
    pub fn running() -> Vec<Self> {
        let entries = fs::read_dir(base()).into_iter().flatten().flatten();
        let mut found: Vec<_> = entries.filter_map(|entry| Self::read(&entry.path()).ok()).collect();
        found.retain(|state| state.supervisor.is_alive());
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// Reads the state file of a mesh, running or not.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("state.json");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let state = serde_json::from_str(&text).with_context(|| format!("invalid state file {}", path.display()))?;
        Ok(Self {
            dir: dir.to_owned(),
            ..state
        })
    }

    /// Writes the state file.
    pub fn write(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(self).expect("plain values");
        replace(&self.dir.join("state.json"), text.as_bytes())
    }

    /// URL of the viz API.
    pub fn viz_url(&self) -> String {
        format!("http://{}", self.viz)
    }

    /// Lists its pods.
    pub fn pods(&self) -> Result<Vec<PodStatus>> {
        control::ask(&self.control(), &Request::Status)
    }

    /// Returns the value of a variable of a pod's sidecar; none without a sidecar or the variable.
    pub fn sidecar_variable(&self, pod: &str, name: &str) -> Result<Option<String>> {
        let details: PodDetails = control::ask(&self.control(), &Request::Pod(pod.to_owned()))?;
        let mut containers = details.containers.into_iter();
        let sidecar = containers.find(|container| container.name == keys::PROXY_CONTAINER);
        let mut env = sidecar.into_iter().flat_map(|sidecar| sidecar.env);
        Ok(env.find(|(key, _)| key == name).map(|(_, value)| value))
    }

    /// Folders that the control plane reads: the user's manifests, and the generated ones, which complete them.
    pub fn folders(&self) -> [PathBuf; 2] {
        [self.manifests.clone(), generated(&self.dir)]
    }

    /// Token that requests to the viz API bear.
    pub fn viz_token(&self) -> Result<String> {
        let path = viz_token(&self.dir);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Control socket of the supervisor.
    pub fn control(&self) -> PathBuf {
        control(&self.dir)
    }
}

/// Control socket of a supervisor.
pub fn control(dir: &Path) -> PathBuf {
    dir.join("control.sock")
}

/// Token of the viz API.
pub fn viz_token(dir: &Path) -> PathBuf {
    dir.join("viz.token")
}

/// Writes a new token of the viz API. The directory keeps others from it.
pub fn write_viz_token(dir: &Path) -> Result<()> {
    let mut random = [0_u8; 32];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut random))
        .context("cannot read /dev/urandom")?;
    replace(&viz_token(dir), hex::encode(random).as_bytes())
}

/// Generated manifests, which the control plane reads beside the user's.
pub fn generated(dir: &Path) -> PathBuf {
    dir.join("generated")
}

/// Folder of manifests that come from a file or standard input.
pub fn manifests(dir: &Path) -> PathBuf {
    dir.join("manifests")
}

/// Logs of containers.
pub fn logs(dir: &Path) -> PathBuf {
    dir.join("logs")
}

/// Log of a container.
pub fn log(dir: &Path, namespace: &str, pod: &str, container: &str) -> PathBuf {
    logs(dir).join(format!("{namespace}_{pod}_{container}.log"))
}

/// Folder of a pod.
pub fn pod(dir: &Path, namespace: &str, name: &str) -> PathBuf {
    pods(dir).join(format!("{namespace}_{name}"))
}

fn pods(dir: &Path) -> PathBuf {
    dir.join("pods")
}

/// Files that are about to be renamed into the generated manifests.
pub fn staging(dir: &Path) -> PathBuf {
    dir.join("new")
}

/// File of the older half of a log that was full.
pub fn older_log(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

/// State directory of the mesh of that name.
pub fn dir(name: &str) -> PathBuf {
    base().join(name)
}

fn base() -> PathBuf {
    let own = |dir: &PathBuf| dir.is_absolute() && dir.is_dir();
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(own) {
        Some(runtime) => runtime.join("mesh"),
        None => PathBuf::from(format!("/tmp/mesh-{}", nix::unistd::geteuid())),
    }
}

/// Validates a name given by `--name`.
pub fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(plain) || name.starts_with('-') {
        bail!("invalid --name {name:?}: must be 1 to {NAME_MAX} lower-case letters, digits and dashes");
    }
    Ok(())
}

/// Names of meshes that left something behind: their state directories exist and nothing runs.
pub fn leftovers() -> Vec<String> {
    let entries = fs::read_dir(base()).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter(|entry| State::read(&entry.path()).is_ok_and(|state| !state.supervisor.is_alive()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| check_name(name).is_ok())
        .collect();
    names.sort();
    names
}

/// The lock on a state directory; released when the process that holds it exits.
pub struct Lock(#[expect(dead_code, reason = "held, not used")] Flock<File>);

/// Claims the state directory of a new mesh: creates it, locks it, and removes what a crash left.
pub fn take(name: &str) -> Result<(PathBuf, Lock)> {
    check_name(name)?;
    let dir = dir(name);
    make_private(&base())?;
    make_private(&dir)?;
    // Checked again: another mesh may have removed it on exit, and another user may have recreated it.
    check_private(&base())?;
    let Some(lock) = try_lock(&dir)? else {
        bail!(
            "a mesh named {name:?} is already running; stop it with `mesh local down --name {name}`, or choose another --name"
        );
    };
    clean(&dir)?;
    for sub in [generated(&dir), logs(&dir), pods(&dir), staging(&dir)] {
        make_private(&sub)?;
    }
    Ok((dir, lock))
}

/// Takes the lock, unless another process holds it.
pub fn try_lock(dir: &Path) -> Result<Option<Lock>> {
    let path = dir.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(Lock(lock))),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(io::Error::from(error)).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// Kills what a crashed mesh left and empties its directory except for the lock. Requires the lock.
pub fn clean(dir: &Path) -> Result<()> {
    if let Ok(old) = State::read(dir) {
        if old.supervisor.is_alive() {
            // The kernel removes its processes, namespaces, mounts and rules with it.
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(old.supervisor.pid),
                nix::sys::signal::SIGKILL,
            );
        }
        if old.temporary {
            let _ = fs::remove_dir_all(&old.manifests);
        }
    }
    for entry in fs::read_dir(dir)
        .with_context(|| format!("cannot read {}", dir.display()))?
        .flatten()
    {
        let path = entry.path();
        let removed = match entry.file_type() {
            _ if entry.file_name() == "lock" => continue,
            Ok(kind) if kind.is_dir() => fs::remove_dir_all(&path),
            _ => fs::remove_file(&path),
        };
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// Removes the directory itself and releases the lock.
pub fn remove(dir: &Path, lock: Lock) {
    // Renamed first, so that no other process finds half of it or recreates its lock.
    let aside = dir.with_file_name(format!(".gone-{}", std::process::id()));
    let removed = fs::rename(dir, &aside).and_then(|()| fs::remove_dir_all(&aside));
    if removed.is_err() {
        let _ = fs::remove_dir_all(dir);
    }
    remove_base();
    drop(lock);
}

/// Removes the parent directory of all meshes, if this was the last one.
pub fn remove_base() {
    // Fails while anything is in it, as intended.
    let _ = fs::remove_dir(base());
}

/// Creates a directory that only its owner may enter; rejects one that another user has created (in /tmp).
pub(super) fn make_private(dir: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("cannot create {}", dir.display()))?;
    check_private(dir)
}

fn check_private(dir: &Path) -> Result<()> {
    let meta = fs::symlink_metadata(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    if !meta.is_dir() || meta.uid() != nix::unistd::geteuid().as_raw() {
        bail!(
            "{} belongs to another user; remove it, or set XDG_RUNTIME_DIR",
            dir.display()
        );
    }
    Ok(())
}

/// Replaces a file atomically: readers see the old one or the new one.
pub fn replace(path: &Path, contents: &[u8]) -> Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    fs::write(&new, contents).with_context(|| format!("cannot write {}", new.display()))?;
    fs::rename(&new, path).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_identified_by_pid_and_start() {
        let own = Process::find(std::process::id().cast_signed()).expect("this process is running");
        assert!(own.is_alive());
        assert!(
            !Process {
                started: own.started + 1,
                ..own
            }
            .is_alive(),
            "another process with the same PID"
        );
    }

    #[test]
    fn rejects_long_and_unusual_names() {
        check_name("demo-2").expect("a name");
        for bad in ["", "-x", "../x", "A", &"x".repeat(33)] {
            let error = check_name(bad).expect_err(bad).to_string();
            assert!(error.contains("--name"), "{error}");
        }
    }
}
