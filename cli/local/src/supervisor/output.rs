//! Generated objects as files that the control plane watches: one per object, each replaced atomically.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

/// The folder of generated objects and its contents.
pub(super) struct Output {
    dir: PathBuf,
    // Beside it, so that no reader sees half a file.
    new: PathBuf,
    written: BTreeMap<String, String>,
}

impl Output {
    /// Writes into `dir`; `new` is on the same file system.
    pub(super) fn new(dir: PathBuf, new: PathBuf) -> Self {
        Self {
            dir,
            new,
            written: BTreeMap::new(),
        }
    }

    /// Makes the folder hold exactly these objects. Unchanged files are not touched.
    pub(super) fn set(&mut self, objects: &[Value]) -> Result<()> {
        let named: BTreeMap<_, _> = objects
            .iter()
            .map(|object| (file_name(object), object.to_string()))
            .collect();
        for (name, text) in &named {
            if self.written.get(name) != Some(text) {
                let (new, path) = (self.new.join(name), self.dir.join(name));
                fs::write(&new, text).with_context(|| format!("cannot write {}", new.display()))?;
                fs::rename(&new, &path).with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
        for name in self.written.keys().filter(|name| !named.contains_key(*name)) {
            let _ = fs::remove_file(self.dir.join(name));
        }
        self.written = named;
        Ok(())
    }
}

fn file_name(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, metadata) = (text(&object["kind"]), &object["metadata"]);
    // The contents are JSON, which is YAML, too.
    format!(
        "{kind}_{}_{}.yaml",
        text(&metadata["namespace"]),
        text(&metadata["name"])
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_follow_the_objects() {
        let dir = tempfile::tempdir().expect("a folder");
        let [all, new] = ["all", "new"].map(|name| dir.path().join(name));
        fs::create_dir(&all).and_then(|()| fs::create_dir(&new)).expect("made");
        let mut output = Output::new(all.clone(), new.clone());
        let object = |name: &str| serde_json::json!({ "kind": "Pod", "metadata": { "namespace": "ns", "name": name } });
        output.set(&[object("a"), object("b")]).expect("written");
        output.set(&[object("b")]).expect("written");
        let names: Vec<_> = fs::read_dir(&all)
            .expect("read")
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        assert_eq!(names, ["Pod_ns_b.yaml"]);
        assert_eq!(
            fs::read_dir(&new).expect("read").count(),
            0,
            "no temporary file remains"
        );
    }
}
