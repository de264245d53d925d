//! Texts in their places: file headers, documentation, metric names, the README's map, the top level.

use std::{collections::BTreeSet, fs};

use crate::{
    assert_none,
    items::Scope,
    source,
    workspace::{ROOT, packages},
};

/// Entries allowed at the top of the tree.
const TOP_LEVEL: [&str; 24] = [
    ".cargo",
    ".ci",
    ".clippy.toml",
    ".deny.toml",
    ".git",
    ".github",
    ".gitignore",
    ".rustfmt.toml",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "SECURITY.md",
    "charts",
    "cli",
    "destination",
    "docs",
    "identity",
    "injector",
    "proxy",
    "tests",
    "viz",
];
/// Build output at the top, which git ignores.
const IGNORED: [&str; 2] = [".target", "target"];

#[test]
fn top_level_is_closed() {
    let entries = fs::read_dir(&*ROOT).expect("the root can be read").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let known = |name: &str| TOP_LEVEL.iter().chain(&IGNORED).any(|known| *known == name);
    assert_none(
        "the top level is closed",
        &names.filter(|name| !known(name)).collect::<Vec<_>>(),
    );
}

#[test]
fn every_file_has_a_header() {
    let silent = source::all()
        .iter()
        .filter(|file| !file.text.starts_with("//! "))
        .map(|file| file.path.clone());
    assert_none("a file opens with //! and a description", &silent.collect::<Vec<_>>());
}

#[test]
fn public_items_are_documented() {
    let mut wrong = Vec::new();
    for file in source::all().iter().filter(|file| !file.is_test()) {
        let items = file.items.items.iter();
        let bare = items.filter(|item| item.visibility == Scope::Public && !item.is_documented);
        wrong.extend(bare.map(|item| format!("{}:{}: {:?} {}", file.path, item.line + 1, item.kind, item.name)));
    }
    assert_none(
        "a public type, function, trait, constant, macro or module has a doc comment",
        &wrong,
    );
}

#[test]
fn todos_have_an_issue_number() {
    let mut wrong = Vec::new();
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    for file in source::all() {
        let lines = file.text.lines().enumerate();
        let left = lines.filter(|(_, line)| words.iter().any(|word| line.contains(word)) && !line.contains('#'));
        wrong.extend(left.map(|(number, line)| format!("{}:{}: {}", file.path, number + 1, line.trim())));
    }
    assert_none("unfinished work has the number of an issue", &wrong);
}

/// Returns whether a literal looks like the name of a metric: words with underscores.
fn is_metric_name(text: &str) -> bool {
    let words = text.split('_').count();
    let word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    words > 1 && text.split('_').all(word)
}

#[test]
fn metric_names_are_in_one_crate() {
    let files = source::all();
    let (metrics, others): (Vec<_>, Vec<_>) = files
        .iter()
        .partition(|file: &&source::Source| file.path.starts_with("proxy/metrics/"));
    let ends = ["_total", "_seconds", "_ms", "_bytes", "_bucket", "_timestamp", "_count"];
    let is_named = |text: &str| is_metric_name(text) && ends.iter().any(|end| text.ends_with(end));
    let names: BTreeSet<&str> = metrics
        .iter()
        .flat_map(|file| file.literals.iter().map(|(_, text)| text.as_str()))
        .filter(|text| is_named(text))
        .collect();
    assert!(!names.is_empty(), "proxy-metrics has names");
    let mut wrong = Vec::new();
    for file in others.iter().filter(|file| !file.is_test()) {
        let before_tests = file.lines_before_tests();
        let literals = file.literals.iter().filter(|(line, _)| *line < before_tests);
        let named =
            literals.filter(|(_, text)| names.contains(text.as_str()) || (is_named(text) && text.ends_with("_total")));
        wrong.extend(named.map(|(line, text)| format!("{}:{}: {text:?}", file.path, line + 1)));
    }
    assert_none("the name of a metric is written in proxy-metrics only", &wrong);
}

#[test]
fn the_architecture_page_maps_every_crate() {
    let page = fs::read_to_string(ROOT.join("docs/architecture.md")).expect("there is an architecture page");
    let missing = packages().into_iter().filter(|package| {
        let marks = [format!("`{}`", package.path), format!("`{}/`", package.path)];
        !marks.iter().any(|mark| page.contains(mark))
    });
    assert_none(
        "docs/architecture.md maps every crate by its path",
        &missing.map(|package| package.path).collect::<Vec<_>>(),
    );
}

#[test]
fn readme_has_the_commands_that_ci_runs() {
    let readme = fs::read_to_string(ROOT.join("README.md")).expect("there is a README");
    for marker in ["<!-- command: demo -->", "<!-- command: test -->"] {
        let after = readme.split_once(marker).map(|(_, after)| after.trim_start());
        assert!(
            after.is_some_and(|after| after.starts_with("```")),
            "README.md has a command after {marker}"
        );
    }
}

/// Programs that `mesh demo` runs.
const DEMO: [&str; 5] = ["mesh", "mesh-destination", "mesh-identity", "mesh-proxy", "mesh-viz"];

#[test]
fn the_readmes_build_makes_the_programs_of_the_demo() {
    let manifest = fs::read_to_string(ROOT.join("Cargo.toml")).expect("a manifest");
    let line = manifest.lines().find(|line| line.starts_with("default-members = "));
    let mut built: Vec<&str> = line.unwrap_or_default().split('"').skip(1).step_by(2).collect();
    built.sort_unstable();
    let packages = packages();
    let mut needed: Vec<&str> = packages
        .iter()
        .filter(|package| DEMO.contains(&package.name.as_str()))
        .map(|package| package.path.as_str())
        .collect();
    needed.sort_unstable();
    assert_eq!(built, needed, "default-members are the programs of the demo");
}
