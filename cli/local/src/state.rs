//! The state directory: how commands in other terminals find a running mesh.
//!
//! `$XDG_RUNTIME_DIR/mesh/NAME`, else `/tmp/mesh-UID/NAME`. The outer process of `up` holds a lock in it while it lives;
//! so a directory whose lock is free is what a crash left behind, and may be cleaned up.

use std::{
    fs::{self, File},
    io,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

/// Name of a mesh when none is given.
pub const DEFAULT_NAME: &str = "default";
/// Longest name: the control socket's path has 108 bytes in all.
const NAME_MAX: usize = 32;

/// A running mesh, as its state file says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// Its name.
    pub name: String,
    /// The directory this was read from.
    #[serde(skip)]
    pub dir: PathBuf,
    /// Where the viz API answers, on the host's loopback.
    pub viz: SocketAddr,
    /// The manifests it runs.
    pub manifests: PathBuf,
    /// The process that made it: `mesh local up` or `mesh demo`.
    pub outer: Process,
    /// Process 1 of its namespaces, by its number on the host.
    pub supervisor: Process,
}

/// A process, told from a later one with the same number by its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// When it started, in the kernel's ticks since boot.
    pub started: u64,
}

impl Process {
    /// The process that has this number now.
    pub fn find(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the command in parentheses and may hold anything, so count from the last one. The state is
        // field 3, the start field 22.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        let started = fields.nth(18)?.parse().ok()?;
        (state != "Z" && state != "X").then_some(Self { pid, started })
    }

    /// Whether it still runs.
    pub fn is_alive(self) -> bool {
        Self::find(self.pid) == Some(self)
    }
}

impl State {
    /// The running mesh of that name; without a name the only one, else `default`.
    pub fn find(name: Option<&str>) -> Result<Self> {
        let Some(name) = name else {
            return Self::find_any();
        };
        check_name(name)?;
        let running = Self::read(&dir(name)).ok().filter(|state| state.supervisor.is_alive());
        running.with_context(|| {
            format!("no mesh named {name:?} runs here; `mesh local up -f DIR --name {name}` starts one")
        })
    }

    fn find_any() -> Result<Self> {
        let mut running = Self::running();
        if let Some(at) = running.iter().position(|state| state.name == DEFAULT_NAME) {
            return Ok(running.swap_remove(at));
        }
        match running.len() {
            0 => bail!("no mesh runs here; `mesh demo` or `mesh local up -f DIR` starts one"),
            1 => Ok(running.swap_remove(0)),
            _ => {
                let names: Vec<_> = running.iter().map(|state| state.name.as_str()).collect();
                bail!("several meshes run here: {}; choose one with --name", names.join(", "))
            }
        }
    }

    /// All that run, by name.
    pub fn running() -> Vec<Self> {
        let entries = fs::read_dir(base()).into_iter().flatten().flatten();
        let mut found: Vec<_> = entries.filter_map(|entry| Self::read(&entry.path()).ok()).collect();
        found.retain(|state| state.supervisor.is_alive());
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// Reads the state file, whether the mesh still runs or not.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("state.json");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let state = serde_json::from_str(&text).with_context(|| format!("{} is not ours", path.display()))?;
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

    /// The viz API, as a URL.
    pub fn viz_url(&self) -> String {
        format!("http://{}", self.viz)
    }

    /// The socket that the supervisor answers on.
    pub fn control(&self) -> PathBuf {
        control(&self.dir)
    }
}

/// The socket that a supervisor answers on.
pub fn control(dir: &Path) -> PathBuf {
    dir.join("control.sock")
}

/// What the control plane reads beside the user's manifests.
pub fn generated(dir: &Path) -> PathBuf {
    dir.join("generated")
}

/// The containers' logs.
pub fn logs(dir: &Path) -> PathBuf {
    dir.join("logs")
}

/// Where the older half of a log that was full is.
pub fn older_log(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

/// Where a mesh of that name keeps its state.
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

/// Checks a name given by `--name`.
pub fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(plain) || name.starts_with('-') {
        bail!("--name {name:?}: a name has 1 to {NAME_MAX} lower-case letters, digits and dashes");
    }
    Ok(())
}

/// The lock on a state directory; free again when the process that holds it ends.
pub struct Lock(#[expect(dead_code, reason = "held, not used")] Flock<File>);

/// Takes the state directory of a new mesh: makes it, locks it, and empties it of what a crash left.
pub fn take(name: &str) -> Result<(PathBuf, Lock)> {
    check_name(name)?;
    let dir = dir(name);
    make_private(&base())?;
    make_private(&dir)?;
    // Looked at again: the end of another mesh may have removed it meanwhile, and anybody made it anew.
    check_private(&base())?;
    let Some(lock) = try_lock(&dir)? else {
        bail!("a mesh named {name:?} runs already; `mesh local down --name {name}` ends it, --name starts another");
    };
    clean(&dir)?;
    for sub in [generated(&dir), logs(&dir), dir.join("pods"), dir.join("new")] {
        make_private(&sub)?;
    }
    Ok((dir, lock))
}

/// The lock, unless another process holds it.
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

/// Ends what a crashed mesh left and empties its directory, but for the lock. Only the holder of the lock may.
pub fn clean(dir: &Path) -> Result<()> {
    if let Ok(old) = State::read(dir)
        && old.supervisor.is_alive()
    {
        // Ends all of its processes, namespaces, mounts and rules with it.
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(old.supervisor.pid),
            nix::sys::signal::SIGKILL,
        );
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

/// Removes the directory itself. The holder of the lock calls it last.
pub fn remove(dir: &Path, lock: Lock) {
    // Out of the way at once, so that nobody finds half of it, or makes a lock in it anew.
    let aside = dir.with_file_name(format!(".gone-{}", std::process::id()));
    let removed = fs::rename(dir, &aside).and_then(|()| fs::remove_dir_all(&aside));
    if removed.is_err() {
        let _ = fs::remove_dir_all(dir);
    }
    remove_base();
    drop(lock);
}

/// Removes the directory of all meshes, if this was the last one.
pub fn remove_base() {
    // Fails while anything is in it, which is what is wanted.
    let _ = fs::remove_dir(base());
}

/// Makes a directory that only its owner may enter; one that another user made beforehand (in /tmp) is refused.
fn make_private(dir: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("cannot make {}", dir.display()))?;
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

/// Writes a file as a whole: readers see the old one or the new one.
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
    fn a_process_is_known_by_its_start() {
        let own = Process::find(std::process::id().cast_signed()).expect("this one runs");
        assert!(own.is_alive());
        assert!(
            !Process {
                started: own.started + 1,
                ..own
            }
            .is_alive(),
            "another process with the same number"
        );
    }

    #[test]
    fn names_are_short_and_plain() {
        check_name("demo-2").expect("a name");
        for bad in ["", "-x", "../x", "A", &"x".repeat(33)] {
            let error = check_name(bad).expect_err(bad).to_string();
            assert!(error.contains("--name"), "{error}");
        }
    }
}
