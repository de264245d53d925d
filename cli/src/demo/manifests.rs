//! The application's manifests, written to a folder of their own for as long as the demo runs: people change the split there.

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

/// Weights of the two versions, as the split has them at first.
pub(super) const WEIGHTS: (u32, u32) = (90, 10);

/// The folder; it is removed when this is dropped.
pub(super) struct Manifests {
    dir: PathBuf,
}

/// Writes them. An idle generator sends nothing.
pub(super) fn write(idle: bool) -> Result<Manifests> {
    let manifests = Manifests { dir: make_dir()? };
    manifests.put("app.yaml", APP)?;
    manifests.put("split.yaml", SPLIT)?;
    manifests.put("traffic.yaml", &traffic(idle))?;
    Ok(manifests)
}

/// The same for a cluster.
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
            Err(error) => return Err(error).with_context(|| format!("cannot make {}", dir.display())),
        }
    }
    bail!("{} is full of folders of former demos", std::env::temp_dir().display())
}

impl Manifests {
    /// The folder.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the split stands.
    pub(super) fn split_file(&self) -> PathBuf {
        self.dir.join("split.yaml")
    }

    /// Gives the split other weights.
    pub(super) fn set_weights(&self, v1: u32, v2: u32) -> Result<()> {
        self.put("split.yaml", &split(v1, v2))
    }

    /// Writes a file as a whole: whoever reads it sees the old one or the new one.
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
    fn the_manifests_are_good_and_can_be_changed() {
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
