//! Polled files, such as certificates and values: read again when their content changes.
//!
//! Not watched: a Kubernetes volume swaps a symbolic link, an editor replaces a file, a network file system sends no
//! notification, and a few small reads a second cost nothing. Whole contents are compared, so that two changes within
//! a clock tick of the file system cannot be mistaken for one.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

/// Polling interval: a changed file takes effect within this time.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// Largest file that is read; values with their anchors are about 100 KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Failure to read a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read {}: {reason}", path.display())]
pub struct ReadError {
    /// Path of the file.
    pub path: PathBuf,
    /// Error of the system.
    pub reason: String,
}

/// A set of files and their content at the last poll.
#[derive(Debug)]
pub struct PolledFiles<const N: usize> {
    paths: [PathBuf; N],
    last: Option<Result<[String; N], ReadError>>,
}

impl<const N: usize> PolledFiles<N> {
    /// Makes a set of files, which are not read yet.
    pub fn new(paths: [PathBuf; N]) -> Self {
        Self { paths, last: None }
    }

    /// Reads the files and returns their content if it differs from the last poll, or on the first.
    pub fn changed(&mut self) -> Option<&Result<[String; N], ReadError>> {
        let now = self.read();
        if self.last.as_ref() == Some(&now) {
            return None;
        }
        Some(self.last.insert(now))
    }

    fn read(&self) -> Result<[String; N], ReadError> {
        let mut texts = [const { String::new() }; N];
        for (path, text) in self.paths.iter().zip(&mut texts) {
            *text = read(path).map_err(|error| ReadError {
                path: path.clone(),
                reason: error.to_string(),
            })?;
        }
        Ok(texts)
    }
}

fn read(path: &Path) -> io::Result<String> {
    let size = std::fs::metadata(path)?.len();
    if size > FILE_BYTES_MAX {
        return Err(io::Error::other(format!(
            "the file is {size} bytes, the limit is {FILE_BYTES_MAX}"
        )));
    }
    std::fs::read_to_string(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_each_change_once() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&a, "1").expect("writable");
        let mut files = PolledFiles::new([a.clone(), b.clone()]);
        let missing = files
            .changed()
            .expect("the first poll is a change")
            .clone()
            .unwrap_err();
        assert_eq!(missing.path, b);
        assert!(
            files.changed().is_none(),
            "a file that is still missing is not a change"
        );
        std::fs::write(&b, "2").expect("writable");
        assert_eq!(files.changed(), Some(&Ok(["1".to_owned(), "2".to_owned()])));
        assert!(files.changed().is_none());
        std::fs::write(&a, "3").expect("writable");
        assert_eq!(files.changed(), Some(&Ok(["3".to_owned(), "2".to_owned()])));
    }
}
