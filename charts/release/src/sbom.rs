//! Software bill of materials per program: a CycloneDX 1.5 document of the crates that are linked into it.
//!
//! Only normal dependencies count; what tests, build scripts and macros use does not ship.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use cargo_metadata::{DependencyKind, Metadata, Package, PackageId};
use serde_json::{Value, json};

use crate::VERSION;

/// Document of one program, by the package that makes it.
pub(crate) fn document(metadata: &Metadata, program: &str) -> anyhow::Result<Value> {
    let makes = |package: &&Package| {
        package
            .targets
            .iter()
            .any(|target| target.is_bin() && target.name == program)
    };
    let root = metadata.workspace_packages().into_iter().find(makes);
    let root = root.with_context(|| format!("no package of the workspace makes the program {program}"))?;
    let packages: BTreeMap<&PackageId, &Package> = metadata.packages.iter().map(|p| (&p.id, p)).collect();
    let linked = linked(metadata, &root.id)?;
    let components: Vec<Value> = linked
        .iter()
        .filter_map(|id| packages.get(id))
        .map(|p| component(p))
        .collect();
    Ok(json!({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {"component": {"type": "application", "bom-ref": program, "name": program, "version": VERSION}},
        "components": components,
    }))
}

/// Packages that `root` links, however far away, without itself.
fn linked<'a>(metadata: &'a Metadata, root: &'a PackageId) -> anyhow::Result<BTreeSet<&'a PackageId>> {
    let resolve = metadata
        .resolve
        .as_ref()
        .context("cargo metadata has no dependency graph")?;
    let nodes: BTreeMap<_, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let mut seen = BTreeSet::new();
    let mut waiting = vec![root];
    while let Some(id) = waiting.pop() {
        for dependency in nodes.get(id).map(|node| node.deps.as_slice()).unwrap_or_default() {
            let is_linked = dependency
                .dep_kinds
                .iter()
                .any(|kind| kind.kind == DependencyKind::Normal);
            if is_linked && seen.insert(&dependency.pkg) {
                waiting.push(&dependency.pkg);
            }
        }
    }
    Ok(seen)
}

fn component(package: &Package) -> Value {
    let purl = format!("pkg:cargo/{}@{}", package.name, package.version);
    let mut component = json!({
        "type": "library", "bom-ref": purl, "name": package.name.to_string(), "version": package.version.to_string(), "purl": purl,
    });
    if let Some(license) = &package.license {
        // `MIT/Apache-2.0` is the older form of an SPDX expression.
        component["licenses"] = json!([{"expression": license.replace('/', " OR ")}]);
    }
    component
}
