//! Files of the node: folders of pods, hosts files, generated objects.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    path::Path,
};

use anyhow::{Context, Result};

use super::credentials::Credentials;
use crate::{plan::model::PodPlan, state};

/// Creates a pod's folder with its token and an empty identity folder.
pub(crate) fn create_pod(dir: &Path, plan: &PodPlan, credentials: Option<&Credentials>) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    state::replace(&dir.join("resolv.conf"), b"")?;
    if let (Some(sidecar), Some(credentials)) = (&plan.sidecar, credentials) {
        let identity = &sidecar.identity_dir;
        fs::create_dir_all(identity).with_context(|| format!("cannot create {}", identity.display()))?;
        credentials.write_token(plan, &sidecar.token)?;
    }
    Ok(())
}

/// Writes a file that is bind-mounted elsewhere and so must keep its inode.
pub(crate) fn write_in_place(path: &Path, text: &str) -> Result<()> {
    let written = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .and_then(|mut file| {
            // Written first and truncated after, so that a reader never finds it empty.
            file.write_all(text.as_bytes())?;
            file.set_len(text.len() as u64)
        });
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Makes the folder of generated objects hold exactly the new ones. Unchanged files are not touched, and no reader sees
/// half a file.
pub(crate) fn write_objects(dir: &Path, old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Result<()> {
    let (generated, staging) = (state::generated(dir), state::staging(dir));
    for (name, text) in new.iter().filter(|(name, text)| old.get(*name) != Some(text)) {
        let (temporary, path) = (staging.join(name), generated.join(name));
        fs::write(&temporary, text).with_context(|| format!("cannot write {}", temporary.display()))?;
        fs::rename(&temporary, &path).with_context(|| format!("cannot write {}", path.display()))?;
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        let _ = fs::remove_file(generated.join(name));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_files_follow_the_objects() {
        let dir = tempfile::tempdir().expect("a folder");
        for folder in [state::generated(dir.path()), state::staging(dir.path())] {
            fs::create_dir(folder).expect("created");
        }
        let objects = |names: &[&str]| -> BTreeMap<_, _> {
            let file = |name: &&str| (format!("Pod_ns_{name}.yaml"), "{}".to_owned());
            names.iter().map(file).collect()
        };
        let (both, one) = (objects(&["a", "b"]), objects(&["b"]));
        write_objects(dir.path(), &BTreeMap::new(), &both).expect("written");
        write_objects(dir.path(), &both, &one).expect("written");
        let names = |folder| -> Vec<_> {
            let entries = fs::read_dir(folder).expect("read").flatten();
            entries.map(|entry| entry.file_name()).collect()
        };
        assert_eq!(names(state::generated(dir.path())), ["Pod_ns_b.yaml"]);
        assert!(
            names(state::staging(dir.path())).is_empty(),
            "no temporary file remains"
        );
    }
}
