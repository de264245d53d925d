//! Where objects come from: a directory of manifests. An API server will be the second source, with the same updates.

pub mod directory;
mod locate;
pub mod manifest;

use std::{fmt, path::PathBuf};

use destination_k8s::{Object, ObjectRef};

/// Why a manifest, or a part of it, is not used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// The file (or directory).
    pub file: PathBuf,
    /// The line, from 1, where one is to blame.
    pub line: Option<usize>,
    /// The object, as far as the manifest names one.
    pub object: Option<ObjectRef>,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.reason)
    }
}

/// What a source says as time goes on.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// These are all objects; forget what was before.
    Reset(Vec<Object>),
    /// Some objects are new, changed or gone.
    Changed {
        /// New or changed.
        applied: Vec<Object>,
        /// Gone.
        deleted: Vec<ObjectRef>,
    },
    /// Some manifests are refused; what they said before, if anything, still holds.
    Refused(Vec<Refusal>),
}

/// Why a source cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory is missing or unreadable.
    #[error("the manifest directory {} cannot be read: {source}", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The thread that watches could not be started.
    #[error("the thread that watches manifests cannot be started: {0}")]
    Thread(std::io::Error),
}

/// Limits of a source, each with its reason. What they refuse is a [`Refusal`].
pub mod limits {
    /// Bytes of one manifest; an object of an API server is at most 1.5 MiB, and a file holds a few.
    pub const FILE_BYTES: u64 = 4 * 1024 * 1024;
    /// Manifests of all directories; each is read and kept in memory.
    pub const FILES: usize = 10_000;
    /// Objects of all directories; an index of so many still fits a small machine.
    pub const OBJECTS: usize = 100_000;
    /// Depth of folders; ends loops of symbolic links.
    pub const DEPTH: usize = 8;
    /// Updates that wait for a slow reader; the source waits when it is full.
    pub const UPDATES: usize = 16;
}
