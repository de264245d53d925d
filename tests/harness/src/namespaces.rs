//! Private network namespaces.

use anyhow::{Context as _, Result};
use nix::{
    sched::{CloneFlags, unshare},
    unistd::{getegid, geteuid},
};

/// Creates a private network namespace for this process, inside a private user namespace unless root. It must not have
/// a second thread yet.
pub fn private() -> Result<()> {
    if geteuid().is_root() && unshare(CloneFlags::CLONE_NEWNET).is_ok() {
        return Ok(());
    }
    let (uid, gid) = (geteuid(), getegid());
    let hint = "this system forbids user namespaces to ordinary users; run it as root";
    unshare(CloneFlags::CLONE_NEWUSER).context(hint)?;
    std::fs::write("/proc/self/setgroups", "deny").context(hint)?;
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1")).context(hint)?;
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1")).context(hint)?;
    network()
}

/// Creates a network namespace for this thread, and for what it starts.
pub fn network() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")
}
