//! `docs/advisories.md` against the tree: each test that a row names exists, and each protecting crate is locked at the
//! version that protects, or later.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use cargo_metadata::semver::Version;
use tests_hostile::{attacks, pending};

/// Number of classes.
const CLASSES: usize = 44;

struct Row {
    number: String,
    mark: String,
    crates: String,
    tests: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn rows() -> Vec<Row> {
    let text = fs::read_to_string(root().join("docs/advisories.md")).expect("the table");
    let lines = text.lines().filter(|line| line.starts_with("| "));
    let cells = lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    let row = |cells: Vec<&str>| {
        let [number, _, mark, _, crates, tests] = cells[..] else {
            panic!("six cells: {cells:?}")
        };
        Row {
            number: number.to_owned(),
            mark: mark.to_owned(),
            crates: crates.to_owned(),
            tests: tests.split('`').skip(1).step_by(2).map(str::to_owned).collect(),
        }
    };
    cells.map(row).skip(1).collect()
}

/// Names of all functions of the tree, and of all attacks.
fn names() -> BTreeSet<String> {
    let attacks = attacks::ALL.iter();
    let mut names: BTreeSet<String> = attacks
        .map(|attack| format!("{}, {:?}", attack.name, attack.listener))
        .collect();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let is_source = !name.to_string_lossy().starts_with('.') && name != "target";
            if is_source && path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(path).expect("text");
                let functions = text.split("fn ").skip(1).filter_map(|rest| rest.split('(').next());
                names.extend(functions.map(str::to_owned));
            }
        }
    }
    names
}

/// Returns whether a test is an attack whose row does not hold yet.
fn is_pending(test: &str) -> bool {
    let mut pending = pending::ALL.iter();
    pending.any(|row| test == format!("{}, {:?}", row.name, row.listener))
}

#[test]
fn every_class_is_protected_and_tested_or_not_applicable_or_open() {
    let rows = rows();
    let numbers: Vec<String> = rows.iter().map(|row| row.number.clone()).collect();
    let expected: Vec<String> = (1..=CLASSES).map(|number| number.to_string()).collect();
    assert_eq!(numbers, expected);
    for row in &rows {
        match row.mark.as_str() {
            "protected" => {
                assert!(!row.tests.is_empty(), "row {} has no test", row.number);
                let open = row.tests.iter().find(|test| is_pending(test));
                assert_eq!(open, None, "row {} is open", row.number);
            }
            "open" => assert!(
                row.tests.iter().any(|test| is_pending(test)),
                "row {} is not open",
                row.number
            ),
            "not applicable" => {}
            other => panic!("row {}: {other:?}", row.number),
        }
    }
}

#[test]
fn every_named_test_exists() {
    let names = names();
    for row in rows() {
        for test in row.tests {
            assert!(names.contains(&test), "row {}: there is no test `{test}`", row.number);
        }
    }
}

#[test]
fn every_protecting_crate_is_new_enough() {
    // Not `cargo metadata`: it wants the crates of other systems, too, which a build does not download.
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock");
    let lock: toml::Table = lock.parse().expect("Cargo.lock");
    let mut locked: BTreeMap<&str, Vec<Version>> = BTreeMap::new();
    for package in lock["package"].as_array().expect("packages") {
        let text = |field: &str| package[field].as_str().expect("text");
        let version = Version::parse(text("version")).expect("a version");
        locked.entry(text("name")).or_default().push(version);
    }
    let mut checked = 0;
    for row in rows() {
        for required in row.crates.split(", ").filter(|text| !text.is_empty()) {
            let (name, version) = required.split_once(' ').expect("NAME VERSION");
            let least = Version::parse(version).expect("a version");
            let versions = locked.get(name).unwrap_or_else(|| panic!("{name} is not locked"));
            assert!(
                versions.iter().all(|version| *version >= least),
                "row {}: {name} is {versions:?}, but only {least} protects",
                row.number
            );
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked} crates");
}
