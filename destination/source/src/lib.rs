//! Where objects come from: a directory of manifests, or the API server of a cluster, with the same updates. All that
//! the mesh asks of that server goes through here: no other crate has a client for it.

pub mod cluster;
pub mod directory;
mod locate;
pub mod manifest;

use std::{fmt, path::PathBuf, sync::Arc};

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
    /// What says where the cluster is and who we are cannot be used.
    #[error("{0}")]
    Config(String),
    /// There is no answer from the API server.
    #[error("the cluster at {url} does not answer: {reason}")]
    Unreachable {
        /// Where it should be.
        url: Arc<str>,
        /// What happened instead.
        reason: String,
    },
    /// The API server does not know us.
    #[error(
        "the cluster at {0} does not accept our credentials, which are wrong or have expired: log in again, or choose \
         another context"
    )]
    Unauthorized(Arc<str>),
    /// The API server knows us, and we may not.
    #[error("we have no right to {what}: {reason}")]
    Forbidden {
        /// What we wanted to do.
        what: String,
        /// What the API server says.
        reason: String,
    },
    /// The object, or its whole kind, is not there.
    #[error("cannot {what}: there is no such thing on the cluster")]
    Absent {
        /// What we wanted to do.
        what: String,
    },
    /// Somebody else wrote the object in the meantime, or it is already there.
    #[error("cannot {what}: it was changed or created by somebody else in the meantime")]
    Conflict {
        /// What we wanted to do.
        what: String,
    },
    /// The API server has another reason.
    #[error("cannot {what}: the cluster says {reason}")]
    Refused {
        /// What we wanted to do.
        what: String,
        /// The status of its answer; 0 if there was none that we understand.
        code: u16,
        /// What the API server says.
        reason: String,
    },
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
    /// Objects of one kind that are read of a cluster: more than three times the pods that Kubernetes supports.
    pub const OBJECTS_OF_KIND: usize = 500_000;
    /// Objects of one page of a list: some megabytes of text, which is gone when the page is read.
    pub const PAGE: u32 = 250;
    /// Lists that are read at the same time; each holds a page.
    pub const LISTS: usize = 2;
    /// Changes that wait to be gathered into one update; the watches wait when they are full.
    pub const CHANGES: usize = 64;
}
