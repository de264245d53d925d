//! Manifests from a file, a directory or stdin, split into documents. Errors carry file and line.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use serde_json::Value;

/// Maximum size of one file or of stdin, which is kept in memory.
const BYTES_MAX: u64 = 64 << 20;
/// Maximum depth of directories; ends loops of symbolic links.
const DEPTH_MAX: usize = 8;

/// YAML document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Document {
    /// File name.
    pub(crate) file: String,
    /// First line, from 1.
    pub(crate) line: usize,
    /// Source text.
    pub(crate) text: String,
    /// Parsed value.
    pub(crate) value: Value,
}

/// Reads a file, a directory recursively, or stdin.
pub(crate) fn read(resource: &str) -> anyhow::Result<Vec<Document>> {
    if resource == "-" {
        let text = text(io::stdin().lock()).context("cannot read stdin")?;
        return documents("<stdin>", &text);
    }
    if resource.starts_with("http://") || resource.starts_with("https://") {
        bail!("cannot read {resource}: URLs are not fetched; download it first, or pipe it to -");
    }
    let path = Path::new(resource);
    let mut files = vec![];
    let metadata = fs::metadata(path).with_context(|| format!("cannot read {resource}"))?;
    if metadata.is_dir() {
        folder(path, 0, &mut files)?;
    } else {
        files.push(path.to_owned());
    }
    let mut all = vec![];
    for file in files {
        let name = file.display().to_string();
        let text = fs::File::open(&file)
            .and_then(text)
            .with_context(|| format!("cannot read {name}"))?;
        all.extend(documents(&name, &text)?);
    }
    Ok(all)
}

fn text(reader: impl Read) -> io::Result<String> {
    let mut text = String::new();
    reader.take(BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > BYTES_MAX {
        return Err(io::Error::other(format!("larger than {BYTES_MAX} bytes")));
    }
    Ok(text)
}

fn folder(dir: &Path, depth: usize, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = fs::read_dir(dir).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut entries: Vec<PathBuf> = entries.with_context(|| format!("cannot read {}", dir.display()))?;
    entries.sort();
    for path in entries {
        let is_manifest = path
            .extension()
            .is_some_and(|e| ["yaml", "yml", "json"].iter().any(|known| e == *known));
        if path.is_dir() && depth < DEPTH_MAX {
            folder(&path, depth + 1, files)?;
        } else if is_manifest {
            files.push(path);
        }
    }
    Ok(())
}

/// Splits a text at lines of three dashes.
pub(crate) fn documents(file: &str, text: &str) -> anyhow::Result<Vec<Document>> {
    let parse = |document: destination_yaml::Document<'_>| match document.value() {
        Ok(value) => Ok(Document {
            file: file.to_owned(),
            line: document.first_line(),
            text: document.text.to_owned(),
            value,
        }),
        Err(error) => Err(anyhow!("{file}:{}: {error}", error.line)),
    };
    destination_yaml::documents(text).map(parse).collect()
}

/// Adds the location of the document to an error.
pub(crate) fn locate(document: &Document, error: &anyhow::Error) -> anyhow::Error {
    anyhow!(
        "Error transforming resources: {}:{}: {error:#}",
        document.file,
        document.line
    )
}
