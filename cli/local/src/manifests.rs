//! Sources of manifests: a folder, a file, or standard input.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::state;

/// Largest standard input, in bytes; the limit of a manifest file.
const STDIN_BYTES: u64 = 4 << 20;

/// Source of a mesh's manifests.
#[derive(Clone, Debug)]
pub enum Manifests {
    /// A folder; changes apply immediately.
    Folder(PathBuf),
    /// A folder that is removed with the mesh.
    Temporary(PathBuf),
    /// A single file; changes apply within seconds.
    File(PathBuf),
    /// Standard input, read once.
    Stdin,
}

/// Manifests in the form that the supervisor reads.
pub(crate) struct ManifestFolder {
    pub(crate) path: PathBuf,
    /// Default working directory of containers.
    pub(crate) cwd: PathBuf,
    /// The folder is removed with the mesh.
    pub(crate) temporary: bool,
}

impl Manifests {
    /// Resolves the value of `-f`.
    pub(crate) fn from_flag(path: &Path) -> Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Stdin);
        }
        let found = path.canonicalize().with_context(|| format!("-f {}", path.display()))?;
        let extension = found.extension().and_then(|extension| extension.to_str());
        match extension.map(str::to_ascii_lowercase).as_deref() {
            _ if found.is_dir() => Ok(Self::Folder(found)),
            Some("yaml" | "yml" | "json") => Ok(Self::File(found)),
            _ => bail!(
                "-f {}: neither a directory nor a file *.yaml, *.yml or *.json",
                path.display()
            ),
        }
    }

    /// Makes the manifests a folder; `dir` is the locked state directory.
    pub(crate) fn place(self, dir: &Path) -> Result<ManifestFolder> {
        let own = state::manifests(dir);
        let folder = |path: PathBuf, cwd, temporary| ManifestFolder { path, cwd, temporary };
        Ok(match self {
            Self::Folder(path) => folder(path.clone(), path, false),
            Self::Temporary(path) => folder(path.clone(), path, true),
            Self::File(file) => {
                state::make_private(&own)?;
                let name = file.file_name().context("the file has no name")?;
                // A link, because watching the whole folder of the file would read its neighbours.
                std::os::unix::fs::symlink(&file, own.join(name)).context("cannot link the manifest")?;
                folder(own, file.parent().unwrap_or(Path::new("/")).to_owned(), false)
            }
            Self::Stdin => {
                let mut text = Vec::new();
                let read = std::io::stdin().take(STDIN_BYTES + 1).read_to_end(&mut text);
                read.context("-f -: cannot read standard input")?;
                if text.len() as u64 > STDIN_BYTES {
                    bail!("-f -: standard input has more than {STDIN_BYTES} bytes");
                }
                state::make_private(&own)?;
                fs::write(own.join("stdin.yaml"), text).context("cannot store the manifests")?;
                folder(own, std::env::current_dir()?, false)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_becomes_a_folder_with_a_link() {
        let (dir, user) = (
            tempfile::tempdir().expect("a folder"),
            tempfile::tempdir().expect("a folder"),
        );
        let file = user.path().join("app.yaml");
        fs::write(&file, "kind: Pod").expect("written");
        let placed = Manifests::from_flag(&file).and_then(|manifests| manifests.place(dir.path()));
        let placed = placed.expect("placed");
        let linked = fs::read_to_string(placed.path.join("app.yaml")).expect("linked");
        assert_eq!(linked, "kind: Pod");
        assert_eq!(placed.cwd, user.path().canonicalize().expect("a path"));
    }

    #[test]
    fn rejects_files_of_other_kinds() {
        let error = Manifests::from_flag(Path::new("/etc/passwd")).expect_err("not a manifest");
        assert!(error.to_string().contains("-f /etc/passwd"), "{error}");
        assert!(matches!(Manifests::from_flag(Path::new("-")), Ok(Manifests::Stdin)));
    }
}
