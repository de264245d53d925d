//! What a mesh occupies on the machine: its namespaces, and who is in them. Taken while it runs, looked at when it is gone.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

/// Kinds of namespaces that a mesh makes.
const KINDS: [&str; 3] = ["pid", "net", "mnt"];

/// Namespaces of a mesh, by inode, and what the machine had beside it.
#[derive(Debug)]
pub struct Footprint {
    namespaces: BTreeSet<u64>,
    host: Host,
}

/// What must not change on the machine.
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
    /// The footprint of the mesh whose process 1 this is, by its number on the host.
    pub fn of(supervisor: i32, before: Host) -> Self {
        let own = inodes("self").expect("this process runs");
        let inside = inode(&supervisor.to_string(), "pid").expect("the mesh runs");
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

    /// How many namespaces there are: one of each kind for the mesh, and two for each pod.
    pub fn namespaces(&self) -> usize {
        self.namespaces.len()
    }

    /// Processes that are still in there.
    pub fn left(&self) -> Vec<String> {
        let inside =
            |pid: &String| inodes(pid).is_some_and(|all| all.iter().any(|inode| self.namespaces.contains(inode)));
        processes().into_iter().filter(inside).collect()
    }

    /// Fails unless nothing is left, and the machine is as it was. A namespace without a process, a name or an open file
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
