//! Workspace as cargo knows it: packages with their directories and dependencies.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

/// Directory of the root manifest.
pub(crate) static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the workspace is two folders up")
});

/// Metadata of the workspace, resolved for this machine.
pub(crate) static METADATA: LazyLock<Metadata> = LazyLock::new(|| {
    let version = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let version = String::from_utf8(version.stdout).expect("rustc writes UTF-8");
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .expect("rustc names its host");
    // Without the filter, cargo would fetch what only other systems need.
    let options = ["--locked", "--filter-platform", host].map(str::to_owned);
    let mut command = MetadataCommand::new();
    command.manifest_path(ROOT.join("Cargo.toml")).other_options(options);
    command
        .exec()
        .expect("cargo metadata answers, and Cargo.lock is up to date")
});

/// Package of ours.
pub(crate) struct Package {
    pub(crate) name: String,
    /// Directory from the root: `proxy/model`.
    pub(crate) path: String,
}

/// Our packages.
pub(crate) fn packages() -> Vec<Package> {
    let path = |manifest: &Path| {
        let folder = manifest.parent().expect("a manifest is in a folder");
        folder
            .strip_prefix(&*ROOT)
            .expect("a member is below the root")
            .to_string_lossy()
            .into_owned()
    };
    let packages = METADATA.workspace_packages();
    packages
        .iter()
        .map(|p| Package {
            name: p.name.to_string(),
            path: path(p.manifest_path.as_std_path()),
        })
        .collect()
}

/// Dependencies of each package for builds, not for tests.
static DEPENDENCIES: LazyLock<BTreeMap<&PackageId, Vec<&PackageId>>> = LazyLock::new(|| {
    let resolve = METADATA.resolve.as_ref().expect("metadata was resolved");
    let built = |dep: &cargo_metadata::NodeDep| {
        dep.dep_kinds
            .iter()
            .any(|kind| kind.kind != DependencyKind::Development)
    };
    let dependencies =
        |node: &'static cargo_metadata::Node| node.deps.iter().filter(|d| built(d)).map(|d| &d.pkg).collect();
    resolve
        .nodes
        .iter()
        .map(|node| (&node.id, dependencies(node)))
        .collect()
});

fn name_of(id: &PackageId) -> &'static str {
    &METADATA[id].name
}

fn id_of(name: &str) -> &'static PackageId {
    let package = METADATA
        .workspace_packages()
        .into_iter()
        .find(|package| *package.name == name);
    &package.expect("a package of ours").id
}

/// Dependencies in the manifest of `package`, without those of tests.
pub(crate) fn direct(package: &str) -> BTreeSet<&'static str> {
    DEPENDENCIES[id_of(package)].iter().map(|id| name_of(id)).collect()
}

/// Packages that name `package` as a dependency, except for their tests.
pub(crate) fn dependents(package: &str) -> BTreeSet<&'static str> {
    let names = |ids: &[&PackageId]| ids.iter().any(|id| name_of(id) == package);
    let users = DEPENDENCIES.iter().filter(|(_, dependencies)| names(dependencies));
    users.map(|(id, _)| name_of(id)).collect()
}

/// All dependencies of `package`, with a path to each: `a → b → c`.
pub(crate) fn reachable(package: &str) -> BTreeMap<&'static str, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![(id_of(package), package.to_owned())];
    while let Some((id, way)) = todo.pop() {
        for dependency in &DEPENDENCIES[id] {
            let name = name_of(dependency);
            let way = format!("{way} → {name}");
            if found.insert(name, way.clone()).is_none() {
                todo.push((dependency, way));
            }
        }
    }
    found
}

/// Crates that a build of ours compiles. `cargo metadata` also lists those of other features.
pub(crate) fn built() -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = [
        "tree",
        "--locked",
        "--workspace",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ];
    let tree = Command::new(cargo)
        .args(arguments)
        .current_dir(&*ROOT)
        .output()
        .expect("cargo runs");
    assert!(
        tree.status.success(),
        "cargo tree failed: {}",
        String::from_utf8_lossy(&tree.stderr)
    );
    let lines = String::from_utf8(tree.stdout).expect("cargo writes UTF-8");
    lines
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}
