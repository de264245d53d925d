//! Manifests of the application, written to a temporary directory while the demo runs: users edit the split there.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

const APP: &str = include_str!("manifests/app.yaml");
const SPLIT: &str = include_str!("manifests/split.yaml");
const TRAFFIC: &str = include_str!("manifests/traffic.yaml");

/// Initial weights of the two versions.
pub(super) const WEIGHTS: (u32, u32) = (90, 10);

/// Temporary directory; removed on drop.
pub(super) struct Manifests {
    dir: PathBuf,
}

/// Writes the manifests. An idle generator sends nothing.
pub(super) fn write(idle: bool) -> Result<Manifests> {
    let manifests = Manifests { dir: make_dir()? };
    manifests.put("app.yaml", APP)?;
    manifests.put("split.yaml", SPLIT)?;
    manifests.put("traffic.yaml", &traffic(idle))?;
    Ok(manifests)
}

/// Renders the manifests for a cluster.
pub(super) fn for_cluster(image: &str) -> Result<String> {
    super::cluster::manifests(&[APP, SPLIT, TRAFFIC], image)
}

fn traffic(idle: bool) -> String {
    if idle {
        TRAFFIC.replace("\"--rps\", \"25\"", "\"--rps\", \"0\"")
    } else {
        TRAFFIC.to_owned()
    }
}

fn make_dir() -> Result<PathBuf> {
    for n in 0..100 {
        let dir = std::env::temp_dir().join(format!("mesh-demo-{}-{n}", std::process::id()));
        match fs::DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot create {}", dir.display())),
        }
    }
    bail!(
        "cannot create a directory in {}: too many are left from earlier demos",
        std::env::temp_dir().display()
    )
}

impl Manifests {
    /// Returns the directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the path of the split.
    pub(super) fn split_file(&self) -> PathBuf {
        self.dir.join("split.yaml")
    }

    /// Changes the weights of the split.
    pub(super) fn set_weights(&self, v1: u32, v2: u32) -> Result<()> {
        self.put("split.yaml", &split(v1, v2))
    }

    /// Replaces a file atomically.
    fn put(&self, name: &str, text: &str) -> Result<()> {
        let path = self.dir.join(name);
        let new = self.dir.join(format!(".{name}.new"));
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Drop for Manifests {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn split(v1: u32, v2: u32) -> String {
    let old = |version: &str, weight: u32| format!("{{service: voting-{version}, weight: {weight}}}");
    SPLIT
        .replace(&old("v1", WEIGHTS.0), &old("v1", v1))
        .replace(&old("v2", WEIGHTS.1), &old("v2", v2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_valid_manifests_and_changes_weights() {
        let manifests = write(true).expect("written");
        let dir = manifests.dir().to_owned();
        let loaded = destination_source::directory::load(std::slice::from_ref(&dir));
        assert_eq!(loaded.refused, []);
        assert!(loaded.objects.len() > 15, "{}", loaded.objects.len());
        assert!(traffic(true).contains("\"--rps\", \"0\"") && !traffic(true).contains("25"));
        let changed = split(0, 100);
        assert!(
            changed.contains("voting-v1, weight: 0}") && changed.contains("voting-v2, weight: 100}"),
            "{changed}"
        );
        drop(manifests);
        assert!(!dir.exists());
    }
}
