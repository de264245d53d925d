//! Atomic file writes.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// Mode of files that only root may read.
pub(super) const SECRET: u32 = 0o600;
/// Mode of programs.
const PROGRAM: u32 = 0o755;
/// Mode of files without an example.
const PLAIN: u32 = 0o644;
/// Suffix of a file that is being written; no runtime reads it.
const UNFINISHED: &str = ".linkerd-cni-tmp";

/// Returns true for the name of an interrupted write.
pub(super) fn is_unfinished(name: &str) -> bool {
    name.ends_with(UNFINISHED)
}

/// Returns the names of a folder's files, sorted; none if the folder does not exist.
pub(super) fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if !entry.path().is_dir() {
            names.extend(entry.file_name().into_string().ok());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Removes a file if it exists.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes a file unless it has that content and mode. Returns true if it was written.
pub(super) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<bool> {
    let same_mode = fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o777 == mode);
    if same_mode && fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(false);
    }
    let unfinished = begin(path)?;
    let written = create(&unfinished, mode).and_then(|mut file| file.write_all(bytes).map(|()| file));
    finish(&unfinished, path, written)
}

/// Writes a file as [`replace`] does, with the owner and mode of another.
pub(super) fn replace_like(path: &Path, bytes: &[u8], example: &Path) -> io::Result<bool> {
    let example = fs::metadata(example).ok();
    let mode = example.as_ref().map_or(PLAIN, |example| example.mode() & 0o777);
    let written = replace(path, bytes, mode)?;
    if let Some(example) = example.filter(|_| written) {
        // Best effort: without the privilege the file is this user's, with the same mode.
        let _ = chown(path, Some(example.uid()), Some(example.gid()));
    }
    Ok(written)
}

/// Copies a program unless it is installed already. Returns true if it was copied. The first comparison is byte by
/// byte, because all files of an image may have the same modification time; `compared` records it.
pub(super) fn copy_program(from: &Path, to: &Path, compared: &OnceLock<()>) -> io::Result<bool> {
    let is_same = is_like(from, to)? && (compared.get().is_some() || fs::read(from)? == fs::read(to)?);
    compared.get_or_init(|| ());
    if is_same {
        return Ok(false);
    }
    let unfinished = begin(to)?;
    let copied = create(&unfinished, PROGRAM).and_then(|mut file| {
        io::copy(&mut File::open(from)?, &mut file)?;
        // Marks the copy of this very program, so that megabytes need not be compared at each reconciliation.
        file.set_modified(fs::metadata(from)?.modified()?)?;
        Ok(file)
    });
    finish(&unfinished, to, copied)
}

fn is_like(one: &Path, other: &Path) -> io::Result<bool> {
    let Ok(other) = fs::metadata(other) else {
        return Ok(false);
    };
    let one = fs::metadata(one)?;
    let same = one.len() == other.len() && one.modified()? == other.modified()?;
    Ok(same && other.mode() & 0o777 == PROGRAM)
}

fn begin(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let unfinished = dir.join(format!(".{name}{UNFINISHED}"));
    remove(&unfinished)?;
    Ok(unfinished)
}

fn create(path: &Path, mode: u32) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    // Independent of the process's umask.
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok(file)
}

fn finish(unfinished: &Path, path: &Path, written: io::Result<File>) -> io::Result<bool> {
    let finished = written
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(unfinished, path));
    if finished.is_err() {
        let _ = remove(unfinished);
    }
    finished.map(|()| true)
}
