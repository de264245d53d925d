//! The plugin on a node: its file, its kubeconfig, and its entry in every network configuration.
//!
//! [`Installer::reconcile`] brings a node to the desired state and can be called at any time; it writes only what
//! differs, in the order in which it is needed (program, kubeconfig, chain), and each file atomically.
//! [`Installer::leave`] and [`Installer::clean`] undo it and restore the original files byte by byte from copies kept
//! beside them.

mod files;
mod kubeconfig;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use serde_json::Value;

use crate::chain::{self, Form, Joined, PLUGIN};
pub(crate) use kubeconfig::Account;

/// Kubeconfig of the plugin, upstream's name; it sorts last and is not a network configuration.
pub(crate) const KUBECONFIG: &str = "ZZZ-linkerd-cni-kubeconfig";
/// Suffix of the original of a joined file.
const SAVED: &str = ".linkerd-cni-saved";
/// Network configurations; a node has one to five.
const CONFIGURATIONS_MAX: usize = 64;
/// Longest configuration; real ones are a few KiB.
const CONFIGURATION_BYTES: u64 = 1024 * 1024;

/// Error of an installation.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Path.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// An invalid configuration of the plugin.
    #[error("invalid plugin configuration {}: {reason}", path.display())]
    Config {
        /// File.
        path: PathBuf,
        /// Reason.
        reason: String,
    },
    /// Too many files.
    #[error("{} has more than {CONFIGURATIONS_MAX} network configurations", .0.display())]
    TooMany(PathBuf),
}

/// Adds a path to I/O errors.
pub(crate) trait At<T> {
    /// Adds `path` to the error.
    fn at(self, path: &Path) -> Result<T, Error>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::File {
            path: path.to_owned(),
            source,
        })
    }
}

/// Directories on the node.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) bin_dir: PathBuf,
    pub(crate) net_dir: PathBuf,
    /// `net_dir` as the runtime sees it.
    pub(crate) host_net_dir: PathBuf,
}

/// Outcome of a reconciliation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reconciled {
    /// Configurations with the plugin.
    pub(crate) joined: BTreeSet<String>,
    /// Files written.
    pub(crate) written: Vec<String>,
    /// The plugin was added to a chain.
    pub(crate) rejoined: bool,
    /// Ignored configurations, with reasons.
    pub(crate) refused: Vec<(String, String)>,
}

/// Installs and removes the plugin.
#[derive(Clone, Debug)]
pub(crate) struct Installer {
    pub(crate) places: Places,
    /// Program of the plugin: this one.
    pub(crate) program: PathBuf,
    /// Configuration of the plugin.
    pub(crate) config: PathBuf,
    pub(crate) account: Account,
    /// Set once the installed program has been compared byte by byte.
    pub(crate) compared: OnceLock<()>,
}

impl Installer {
    /// Installs what is missing or outdated.
    pub(crate) fn reconcile(&self) -> Result<Reconciled, Error> {
        let mut looked = Reconciled::default();
        let plugin = self.plugin()?;
        let program = self.places.bin_dir.join(PLUGIN);
        if files::copy_program(&self.program, &program, &self.compared).at(&program)? {
            looked.written.push(program.display().to_string());
        }
        let path = self.places.net_dir.join(KUBECONFIG);
        if files::replace(&path, self.account.kubeconfig()?.as_bytes(), files::SECRET).at(&path)? {
            looked.written.push(path.display().to_string());
        }
        for (name, form) in self.configurations()? {
            self.join(&name, form, &plugin, &mut looked)?;
        }
        Ok(looked)
    }

    /// Removes the plugin from all chains: runtimes that read them from now on do not call it.
    pub(crate) fn leave(&self) -> Result<(), Error> {
        for (name, form) in self.configurations()? {
            if form == Form::List {
                self.leave_list(&name)?;
            }
        }
        Ok(())
    }

    /// Removes the plugin itself, once no runtime calls it.
    pub(crate) fn clean(&self) -> Result<(), Error> {
        let dir = &self.places.net_dir;
        for name in files::names(dir).at(dir)? {
            if name.ends_with(SAVED) || files::is_unfinished(&name) {
                files::remove(&dir.join(&name)).at(dir)?;
            }
        }
        files::remove(&dir.join(KUBECONFIG)).at(dir)?;
        files::remove(&self.places.bin_dir.join(PLUGIN)).at(&self.places.bin_dir)
    }

    /// Returns the plugin's entry in a chain.
    fn plugin(&self) -> Result<Value, Error> {
        let text = fs::read_to_string(&self.config).at(&self.config)?;
        let invalid = |reason: String| Error::Config {
            path: self.config.clone(),
            reason,
        };
        let mut plugin: Value =
            serde_json::from_str(&text).map_err(|error| invalid(format!("invalid JSON: {error}")))?;
        if plugin["type"] != PLUGIN {
            return Err(invalid(format!("the type must be {PLUGIN:?}")));
        }
        let kubeconfig = self.places.host_net_dir.join(KUBECONFIG);
        plugin["kubernetes"]["kubeconfig"] = kubeconfig.display().to_string().into();
        Ok(plugin)
    }

    fn configurations(&self) -> Result<Vec<(String, Form)>, Error> {
        let dir = &self.places.net_dir;
        let names = files::names(dir).at(dir)?;
        let found: Vec<_> = names
            .into_iter()
            .filter_map(|name| Form::from_name(&name).map(|form| (name, form)))
            .collect();
        if found.len() > CONFIGURATIONS_MAX {
            return Err(Error::TooMany(dir.clone()));
        }
        Ok(found)
    }

    fn join(&self, name: &str, form: Form, plugin: &Value, looked: &mut Reconciled) -> Result<(), Error> {
        let path = self.places.net_dir.join(name);
        let Some(text) = read(&path).at(&path)? else {
            return Ok(());
        };
        let list = match chain::join(form, &text, plugin) {
            Ok(Joined::Unchanged) => {
                looked.joined.insert(name.to_owned());
                return Ok(());
            }
            Ok(Joined::Changed(list)) => list,
            Ok(Joined::Added(list)) => {
                let saved = self.saved(name);
                files::replace_like(&saved, text.as_bytes(), &path).at(&saved)?;
                looked.rejoined = true;
                list
            }
            Err(error) => {
                looked.refused.push((name.to_owned(), error.to_string()));
                return Ok(());
            }
        };
        // The file may have been written again in the meantime; then the next reconciliation handles it.
        if read(&path).at(&path)?.as_deref() != Some(&text) {
            return Ok(());
        }
        let target = self.places.net_dir.join(list_name(name));
        files::replace_like(&target, chain::text(&list).as_bytes(), &path).at(&target)?;
        if target != path {
            // The list is in place; a runtime would read the single plugin before it.
            files::remove(&path).at(&path)?;
        }
        looked.written.push(target.display().to_string());
        looked.joined.insert(list_name(name));
        Ok(())
    }

    /// Restores a list to its original.
    fn leave_list(&self, name: &str) -> Result<(), Error> {
        let path = self.places.net_dir.join(name);
        let Some(text) = read(&path).at(&path)? else {
            return Ok(());
        };
        let Some(left) = chain::leave(&text) else {
            return Ok(());
        };
        for (original, form) in originals(name) {
            let saved = self.saved(&original);
            let Some(before) = read(&saved).at(&saved)? else {
                continue;
            };
            let original = self.places.net_dir.join(original);
            if chain::list_of(form, &before).is_ok_and(|before| before == left) {
                fs::rename(&saved, &original).at(&original)?;
                if original != path {
                    files::remove(&path).at(&path)?;
                }
                return Ok(());
            }
        }
        if chain::is_empty(&left) {
            return files::remove(&path).at(&path);
        }
        files::replace_like(&path, chain::text(&left).as_bytes(), &path)
            .map(drop)
            .at(&path)
    }

    fn saved(&self, name: &str) -> PathBuf {
        self.places.net_dir.join(format!("{name}{SAVED}"))
    }
}

/// Returns the name of the list that a configuration becomes.
fn list_name(name: &str) -> String {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    format!("{stem}.conflist")
}

/// Returns the possible originals of a list.
fn originals(list: &str) -> [(String, Form); 3] {
    let stem = list.strip_suffix(".conflist").unwrap_or(list);
    [
        (list.to_owned(), Form::List),
        (format!("{stem}.conf"), Form::Single),
        (format!("{stem}.json"), Form::Single),
    ]
}

/// Reads a file; none if it does not exist.
fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(CONFIGURATION_BYTES).read_to_end(&mut bytes)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}
