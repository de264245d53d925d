//! Deterministic `.tar.gz` archives: programs and chart packages.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use flate2::{Compression, GzBuilder, write::GzEncoder};
use tar::{Builder, Header};

/// Archive under construction.
pub struct Archive {
    tar: Builder<GzEncoder<Vec<u8>>>,
}

impl Default for Archive {
    fn default() -> Self {
        // No time and no file name in the gzip header.
        Self {
            tar: Builder::new(GzBuilder::new().write(Vec::new(), Compression::best())),
        }
    }
}

impl Archive {
    /// Adds a file with its contents and its mode.
    pub fn add(&mut self, path: &str, mode: u32, data: &[u8]) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_mode(mode);
        header.set_size(data.len() as u64);
        header.set_mtime(0);
        self.tar.append_data(&mut header, path, data)
    }

    /// Adds every file of a folder below `prefix`, in the order of their names.
    pub fn add_folder(&mut self, folder: &Path, prefix: &str) -> io::Result<()> {
        for file in files(folder)? {
            let inside = file.strip_prefix(folder).unwrap_or(&file).display();
            self.add(&format!("{prefix}/{inside}"), 0o644, &fs::read(&file)?)?;
        }
        Ok(())
    }

    /// Returns the bytes of the archive.
    pub fn finish(self) -> io::Result<Vec<u8>> {
        self.tar.into_inner()?.finish()
    }
}

/// Files below a folder, sorted by path.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_make_the_same_bytes() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("templates")).expect("created");
        fs::write(folder.path().join("templates/b.yaml"), "b").expect("written");
        fs::write(folder.path().join("Chart.yaml"), "a").expect("written");
        let make = || {
            let mut archive = Archive::default();
            archive.add_folder(folder.path(), "chart").expect("added");
            archive.finish().expect("finished")
        };
        let bytes = make();
        assert_eq!(bytes, make());
        let mut read = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
        let names = read.entries().expect("a tar");
        let names: Vec<_> = names
            .map(|entry| entry.expect("whole").path().expect("a path").display().to_string())
            .collect();
        assert_eq!(names, ["chart/Chart.yaml", "chart/templates/b.yaml"]);
    }
}
