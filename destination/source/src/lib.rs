//! Sources of objects: a directory of manifests or the API server of a cluster, with the same updates. Every request of
//! the mesh to an API server goes through this crate; no other has a client for it.

pub mod cluster;
pub mod directory;
mod locate;
pub mod manifest;
mod open;

use std::{fmt, path::PathBuf, sync::Arc};

use destination_k8s::{Object, ObjectRef};
pub use open::Source;

/// Rejection of a manifest or a part of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// File or directory.
    pub file: PathBuf,
    /// Line, from 1, if one is to blame.
    pub line: Option<usize>,
    /// Object, if the manifest names one.
    pub object: Option<ObjectRef>,
    /// Reason.
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

/// Update from a source.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// The complete set of objects, which replaces any earlier one.
    Reset(Vec<Object>),
    /// A difference to the current set.
    Changed {
        /// New or changed objects.
        applied: Vec<Object>,
        /// Deleted objects.
        deleted: Vec<ObjectRef>,
    },
    /// Rejected manifests; their last valid content, if any, stays in effect.
    Refused(Vec<Refusal>),
    /// Nothing in these files is refused any more.
    Recovered(Vec<PathBuf>),
}

/// Error of a source or of a request to the API server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory is missing or unreadable.
    #[error("cannot read the manifest directory {}: {source}", dir.display())]
    Directory {
        /// Directory.
        dir: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
    /// The watcher thread could not be started.
    #[error("cannot start the thread that watches manifests: {0}")]
    Thread(std::io::Error),
    /// The configuration of cluster or credentials is unusable.
    #[error("{0}")]
    Config(String),
    /// The API server does not respond.
    #[error("the cluster at {url} does not answer: {reason}")]
    Unreachable {
        /// URL of the API server.
        url: Arc<str>,
        /// Reason.
        reason: String,
    },
    /// The API server rejects the credentials.
    #[error(
        "the cluster at {0} does not accept the credentials, which are invalid or have expired: log in again, or choose \
         another context"
    )]
    Unauthorized(Arc<str>),
    /// The API server denies the request.
    #[error("permission denied: cannot {what}: {reason}")]
    Forbidden {
        /// Attempted action.
        what: String,
        /// Reason given by the API server.
        reason: String,
    },
    /// The object, or its whole kind, does not exist.
    #[error("cannot {what}: not found on the cluster")]
    Absent {
        /// Attempted action.
        what: String,
    },
    /// The object was changed concurrently, or exists already.
    #[error("cannot {what}: it was changed or created concurrently")]
    Conflict {
        /// Attempted action.
        what: String,
    },
    /// The API server rejects the request for another reason.
    #[error("cannot {what}: {reason}")]
    Refused {
        /// Attempted action.
        what: String,
        /// Status of the response; 0 if there was no valid one.
        code: u16,
        /// Reason given by the API server.
        reason: String,
    },
}

/// Limits of a source, each with its reason. Exceeding one is reported as a [`Refusal`].
pub mod limits {
    /// Bytes of one manifest; an object of an API server is at most 1.5 MiB, and a file holds a few.
    pub const FILE_BYTES: u64 = 4 * 1024 * 1024;
    /// Manifests of all directories; each is read and kept in memory.
    pub const FILES: usize = 10_000;
    /// Objects of all directories; an index of this size still fits a small machine.
    pub const OBJECTS: usize = 100_000;
    /// Depth of directories; ends loops of symbolic links.
    pub const DEPTH: usize = 8;
    /// Updates queued for a slow reader; the source waits while the queue is full.
    pub const UPDATES: usize = 16;
    /// Objects of one kind read from a cluster: more than three times the pods that Kubernetes supports.
    pub const OBJECTS_OF_KIND: usize = 500_000;
    /// Objects of one page of a list: a few megabytes of text, freed once the page is parsed.
    pub const PAGE: u32 = 250;
    /// Concurrent lists; each holds a page.
    pub const LISTS: usize = 2;
    /// Changes queued to be merged into one update; the watches wait while the queue is full.
    pub const CHANGES: usize = 64;
}
