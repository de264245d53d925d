//! Entering of namespaces that exist: those of a running mesh, and of a pod in it. Only a process with one thread may.

use std::{fs::File, os::unix::fs::MetadataExt as _, path::PathBuf};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};

/// Process namespace of the children that a process starts after it has entered a mesh.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Children {
    /// That of the mesh.
    Inside,
    /// Its own.
    Outside,
}

/// Enters the namespaces of a mesh's supervisor, given by its PID on the host. Its process namespace is entered only on
/// request: children start in it, and this process can start no thread any more.
pub(super) fn enter_mesh(pid: i32, children: Children) -> Result<()> {
    let path = |kind: &str| PathBuf::from(format!("/proc/{pid}/ns/{kind}"));
    let own = |kind: &str| PathBuf::from(format!("/proc/self/ns/{kind}"));
    let mut open = Vec::new();
    for (kind, flag) in [
        ("user", CloneFlags::CLONE_NEWUSER),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("net", CloneFlags::CLONE_NEWNET),
        ("mnt", CloneFlags::CLONE_NEWNS),
    ] {
        if kind == "pid" && children == Children::Outside {
            continue;
        }
        let path = path(kind);
        let file = File::open(&path).with_context(|| format!("the mesh has stopped: {}", path.display()))?;
        // A process cannot re-enter its own user namespace; as root there is no other.
        if kind != "user" || file.metadata()?.ino() != std::fs::metadata(own(kind))?.ino() {
            open.push((file, flag));
        }
    }
    for (file, flag) in open {
        setns(file, flag).context("cannot enter the mesh's namespaces: it belongs to another user")?;
    }
    Ok(())
}

/// Enters namespaces of a pod, given by the PID of its pause process in the mesh, whose /proc this process must see.
pub(super) fn enter_pod(pause_pid: u32, kinds: &[(&str, CloneFlags)]) -> Result<()> {
    // Open all of them first: the mount namespace brings another /proc.
    let open = |(kind, flag): &(&str, CloneFlags)| {
        let path = format!("/proc/{pause_pid}/ns/{kind}");
        let file = File::open(&path).with_context(|| format!("the pod is gone: {path}"))?;
        Ok((file, *flag))
    };
    let namespaces = kinds.iter().map(open).collect::<Result<Vec<_>>>()?;
    for (namespace, flag) in namespaces {
        setns(namespace, flag).context("cannot enter the pod's namespaces")?;
    }
    Ok(())
}
