//! Namespaces of a mesh and the processes in them: recorded while it runs, checked when it has ended.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt as _};

/// Kinds of namespaces that a mesh makes.
const KINDS: [&str; 3] = ["pid", "net", "mnt"];

/// Namespaces of a mesh, by inode, and what the machine had beside it.
#[derive(Debug)]
pub struct Footprint {
    namespaces: BTreeSet<u64>,
    host: Host,
}

/// Mounts and interfaces of the machine, which must not change.
#[derive(Debug, PartialEq, Eq)]
pub struct Host {
    mounts: Vec<String>,
    interfaces: Vec<String>,
}

impl Host {
    /// The machine as it is now.
    pub fn now() -> Self {
        let read = |path: &str| fs::read_to_string(path).expect(path);
        let interfaces = read("/proc/self/net/dev");
        let names = interfaces
            .lines()
            .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()));
        // The mount point is the fifth field; counters elsewhere may change.
        let mounts = read("/proc/self/mountinfo");
        let mounts = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(4).map(str::to_owned));
        Self {
            mounts: mounts.collect(),
            interfaces: names.collect(),
        }
    }
}

impl Footprint {
    /// Records the footprint of the mesh whose process 1 has this PID on the host.
    pub fn record(supervisor: i32, before: Host) -> Self {
        let own = inodes("self").expect("this process is running");
        let inside = inode(&supervisor.to_string(), "pid").expect("the mesh is running");
        let mut namespaces = BTreeSet::new();
        for pid in processes() {
            if inode(&pid, "pid") == Some(inside) {
                namespaces.extend(inodes(&pid).into_iter().flatten());
            }
        }
        for kind in &own {
            namespaces.remove(kind);
        }
        Self {
            namespaces,
            host: before,
        }
    }

    /// Number of namespaces: one of each kind for the mesh, and two for each pod.
    pub fn namespaces(&self) -> usize {
        self.namespaces.len()
    }

    /// Processes that are still in these namespaces.
    pub fn left(&self) -> Vec<String> {
        let inside =
            |pid: &String| inodes(pid).is_some_and(|all| all.iter().any(|inode| self.namespaces.contains(inode)));
        processes().into_iter().filter(inside).collect()
    }

    /// Fails if anything is left or the machine has changed. A namespace without a process, a name or an open file
    /// is gone: the kernel keeps none.
    pub fn assert_gone(&self) {
        let gone = crate::wait(std::time::Duration::from_secs(10), || self.left().is_empty());
        let commands: Vec<_> = self
            .left()
            .iter()
            .map(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")))
            .collect();
        assert!(gone, "left behind: {commands:?}");
        assert_eq!(Host::now(), self.host, "mounts and interfaces of the machine");
    }
}

fn processes() -> Vec<String> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .collect()
}

fn inode(pid: &str, kind: &str) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/{kind}"))
        .ok()
        .map(|meta| meta.ino())
}

fn inodes(pid: &str) -> Option<Vec<u64>> {
    KINDS.iter().map(|kind| inode(pid, kind)).collect()
}
