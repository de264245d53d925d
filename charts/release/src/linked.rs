//! Crates that are linked into a program, as `cargo tree` resolves them for exactly this build: without macros, build
//! scripts, tests and features that are off.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

/// Crate of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// SPDX expression.
    pub(crate) licence: Option<String>,
    /// SHA-256 of the registry's archive; none for crates of this tree.
    pub(crate) checksum: Option<String>,
    /// Crates it uses itself, by place.
    pub(crate) uses: BTreeSet<usize>,
}

/// Crates of one program: itself first, then the others by name and version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Linked {
    pub(crate) packages: Vec<Package>,
}

/// Crates of several programs that one command builds.
#[derive(Debug)]
pub(crate) struct Graph {
    packages: Vec<Package>,
}

/// Cargo.lock, as far as it is read here.
#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

impl Graph {
    /// Reads what a build of `programs` links: features depend on all that one command builds.
    pub(crate) fn read(root: &Path, programs: &[&str]) -> anyhow::Result<Self> {
        let mut tree = Command::new("cargo");
        tree.current_dir(root)
            .args(["tree", "--locked", "--edges", "normal,no-proc-macro"]);
        tree.args(["--prefix", "depth", "--format", " {p}|{l}|"]);
        for program in programs {
            tree.args(["-p", program]);
        }
        let tree = tree.output().context("cannot run cargo")?;
        let why = String::from_utf8_lossy(&tree.stderr);
        ensure!(
            tree.status.success(),
            "cannot list crates by cargo tree: {}",
            why.trim()
        );
        let lock = fs::read_to_string(root.join("Cargo.lock")).context("cannot read Cargo.lock")?;
        Self::parse(&String::from_utf8_lossy(&tree.stdout), &lock)
    }

    fn parse(tree: &str, lock: &str) -> anyhow::Result<Self> {
        let lock: Lock = toml::from_str(lock).context("invalid Cargo.lock")?;
        let sums: BTreeMap<(&str, &str), &Locked> = lock
            .package
            .iter()
            .map(|locked| ((locked.name.as_str(), locked.version.as_str()), locked))
            .collect();
        let mut packages: Vec<Package> = Vec::new();
        let mut places = BTreeMap::new();
        // Places of the crates from the program to the current line.
        let mut way: Vec<usize> = Vec::new();
        for line in tree.lines().filter(|line| !line.is_empty()) {
            let (depth, name, version, licence) = fields(line).with_context(|| format!("invalid line {line:?}"))?;
            let place = *places.entry((name, version)).or_insert_with(|| {
                packages.push(Package {
                    name: name.to_owned(),
                    version: version.to_owned(),
                    licence: Some(licence.to_owned()).filter(|licence| !licence.is_empty()),
                    checksum: sums.get(&(name, version)).and_then(|locked| locked.checksum.clone()),
                    uses: BTreeSet::new(),
                });
                packages.len() - 1
            });
            way.truncate(depth);
            if let Some(user) = way.last() {
                packages[*user].uses.insert(place);
            }
            way.push(place);
        }
        Ok(Self { packages })
    }

    /// Picks what is linked into the program of `package`.
    pub(crate) fn linked(&self, package: &str) -> anyhow::Result<Linked> {
        let root = self.packages.iter().position(|one| one.name == package);
        let root = root.with_context(|| format!("{package} is not built"))?;
        let (mut seen, mut waiting) = (BTreeSet::new(), vec![root]);
        while let Some(place) = waiting.pop() {
            if seen.insert(place) {
                waiting.extend(&self.packages[place].uses);
            }
        }
        let mut order: Vec<usize> = seen.into_iter().collect();
        order.sort_by_key(|place| {
            let package = &self.packages[*place];
            (*place != root, &package.name, &package.version)
        });
        let places: BTreeMap<usize, usize> = order.iter().enumerate().map(|(new, old)| (*old, new)).collect();
        let packages = order.iter().map(|place| {
            let mut package = self.packages[*place].clone();
            package.uses = package.uses.iter().map(|used| places[used]).collect();
            package
        });
        Ok(Linked {
            packages: packages.collect(),
        })
    }
}

/// Depth, name, version and licence of `2 bytes v1.2.3 (/path)|MIT| (*)`.
fn fields(line: &str) -> Option<(usize, &str, &str, &str)> {
    let mut parts = line.split('|');
    let (package, licence) = (parts.next()?, parts.next()?);
    let mut words = package.split_whitespace();
    let depth = words.next()?.parse().ok()?;
    Some((depth, words.next()?, words.next()?.strip_prefix('v')?, licence))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const TREE: &str = "0 mesh-proxy v0.1.0 (/src/proxy)|Apache-2.0|\n1 bytes v1.12.1|MIT|\n\
        1 hyper v1.9.0|MIT/Apache-2.0|\n2 bytes v1.12.1|MIT|\n\n0 mesh-viz v0.1.0 (/src/viz)|Apache-2.0|\n1 axum v0.8.9|MIT|\n\
        2 hyper v1.9.0|MIT/Apache-2.0| (*)\n";
    const LOCK: &str = "version = 4\n[[package]]\nname = \"bytes\"\nversion = \"1.12.1\"\nsource = \"registry+x\"\n\
        checksum = \"ab12\"\n[[package]]\nname = \"mesh-viz\"\nversion = \"0.1.0\"\n";

    pub(crate) fn example() -> Linked {
        let graph = Graph::parse(TREE, LOCK).expect("parsed");
        graph.linked("mesh-viz").expect("built")
    }

    #[test]
    fn a_program_has_what_its_crates_use() {
        let linked = example();
        let names: Vec<_> = linked.packages.iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["mesh-viz", "axum", "bytes", "hyper"]);
        let uses: Vec<Vec<usize>> = linked
            .packages
            .iter()
            .map(|package| package.uses.iter().copied().collect())
            .collect();
        // What follows a line that ends in (*) was listed before.
        assert_eq!(uses, [vec![1], vec![3], vec![], vec![2]]);
        let sums: Vec<_> = linked
            .packages
            .iter()
            .map(|package| package.checksum.as_deref())
            .collect();
        assert_eq!(sums, [None, None, Some("ab12"), None]);
    }

    #[test]
    fn rejects_other_output() {
        assert!(Graph::parse("├── bytes v1\n", LOCK).is_err());
        let graph = Graph::parse(TREE, LOCK).expect("parsed");
        assert!(graph.linked("mesh-cni").is_err());
    }
}
