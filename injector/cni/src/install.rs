//! The plugin on a node: its file, its kubeconfig, and its place in every network configuration.
//!
//! [`Installer::look`] brings a node to what is wanted and can be called at any time; it writes only what is not so yet, in
//! the order in which it is needed (program, kubeconfig, chain), and each file as a whole. [`Installer::leave`] and [`Installer::clean`] go the other
//! way and leave the files of others as they wrote them: what they wrote is kept beside, byte by byte.

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

/// The plugin's kubeconfig, Linkerd's name; it sorts last and is no network configuration.
pub(crate) const KUBECONFIG: &str = "ZZZ-linkerd-cni-kubeconfig";
/// What others wrote, beside the file in which we joined.
const SAVED: &str = ".linkerd-cni-saved";
/// Configurations that are looked at; a node has one to five.
const CONFIGURATIONS_MAX: usize = 64;
/// Longest configuration; real ones are a few KiB.
const CONFIGURATION_BYTES: u64 = 1024 * 1024;

/// What keeps the plugin from being in place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The plugin's own configuration is wrong.
    #[error("the plugin's configuration {}: {why}", path.display())]
    Config {
        /// Its file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// There are too many files.
    #[error("{} has more than {CONFIGURATIONS_MAX} network configurations", .0.display())]
    TooMany(PathBuf),
}

/// A result of a look at a path.
pub(crate) trait At<T> {
    /// Names the path in the error.
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

/// Where things are.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) bin_dir: PathBuf,
    pub(crate) net_dir: PathBuf,
    /// `net_dir` as the runtime sees it.
    pub(crate) host_net_dir: PathBuf,
}

/// What a look found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Looked {
    /// Configurations that have our plugin now.
    pub(crate) joined: BTreeSet<String>,
    /// What was written.
    pub(crate) written: Vec<String>,
    /// Whether a chain has our plugin that had not.
    pub(crate) rejoined: bool,
    /// Configurations that are left alone, and why.
    pub(crate) refused: Vec<(String, String)>,
}

/// Installs the plugin, and takes it away.
#[derive(Clone, Debug)]
pub(crate) struct Installer {
    pub(crate) places: Places,
    /// The program that is the plugin: ourselves.
    pub(crate) program: PathBuf,
    /// The plugin's configuration.
    pub(crate) config: PathBuf,
    pub(crate) account: Account,
    /// Whether the program was compared with the one that is there.
    pub(crate) compared: OnceLock<()>,
}

impl Installer {
    /// Puts in place what is not there yet.
    pub(crate) fn look(&self) -> Result<Looked, Error> {
        let mut looked = Looked::default();
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

    /// Leaves all chains: no runtime that reads them from now on calls the plugin.
    pub(crate) fn leave(&self) -> Result<(), Error> {
        for (name, form) in self.configurations()? {
            if form == Form::List {
                self.leave_list(&name)?;
            }
        }
        Ok(())
    }

    /// Takes away the plugin itself, when nobody calls it any more.
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

    /// Our entry in a chain.
    fn plugin(&self) -> Result<Value, Error> {
        let text = fs::read_to_string(&self.config).at(&self.config)?;
        let wrong = |why: String| Error::Config {
            path: self.config.clone(),
            why,
        };
        let mut plugin: Value =
            serde_json::from_str(&text).map_err(|error| wrong(format!("it is no JSON: {error}")))?;
        if plugin["type"] != PLUGIN {
            return Err(wrong(format!("its type is not {PLUGIN:?}")));
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
            .filter_map(|name| Form::of(&name).map(|form| (name, form)))
            .collect();
        if found.len() > CONFIGURATIONS_MAX {
            return Err(Error::TooMany(dir.clone()));
        }
        Ok(found)
    }

    fn join(&self, name: &str, form: Form, plugin: &Value, looked: &mut Looked) -> Result<(), Error> {
        let path = self.places.net_dir.join(name);
        let Some(text) = read(&path).at(&path)? else {
            return Ok(());
        };
        let list = match chain::join(form, &text, plugin) {
            Ok(Joined::AsWanted) => {
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
            Err(wrong) => {
                looked.refused.push((name.to_owned(), wrong.to_string()));
                return Ok(());
            }
        };
        // Whoever wrote it may have written again while we worked: then it is for the next look.
        if read(&path).at(&path)?.as_deref() != Some(&text) {
            return Ok(());
        }
        let target = self.places.net_dir.join(list_name(name));
        files::replace_like(&target, chain::text(&list).as_bytes(), &path).at(&target)?;
        if target != path {
            // The list is there; a runtime would read the single plugin before it.
            files::remove(&path).at(&path)?;
        }
        looked.written.push(target.display().to_string());
        looked.joined.insert(list_name(name));
        Ok(())
    }

    /// Brings a list back to what others wrote.
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

/// The name of the list that a configuration becomes.
fn list_name(name: &str) -> String {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    format!("{stem}.conflist")
}

/// What a list may have been.
fn originals(list: &str) -> [(String, Form); 3] {
    let stem = list.strip_suffix(".conflist").unwrap_or(list);
    [
        (list.to_owned(), Form::List),
        (format!("{stem}.conf"), Form::Single),
        (format!("{stem}.json"), Form::Single),
    ]
}

/// The text of a file; none if there is no such file, or no longer.
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
