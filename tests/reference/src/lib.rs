//! Reference pages generated from the code: `docs/reference/*.md` must equal what the code renders today.
//!
//! `MESH_RENEW=1 cargo test --workspace reference` writes the pages anew. The pages about constants are rendered in
//! this crate's tests; the one about the command line in the program's own, which has the definitions.

use std::{env, fs, path::Path};

/// First lines of every page.
const NOTE: &str = "<!-- Generated from the code; renewed by `MESH_RENEW=1 cargo test --workspace reference`. -->";

/// Compares a page with its file in `docs/reference`, or writes the file when `MESH_RENEW` is set.
///
/// # Panics
///
/// When the file differs or cannot be read or written.
pub fn check(file: &str, title: &str, body: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs/reference")
        .join(file);
    let page = format!("# {title}\n\n{NOTE}\n\n{}\n", body.trim_end());
    if env::var_os("MESH_RENEW").is_some() {
        fs::write(&path, page).unwrap_or_else(|error| panic!("cannot write docs/reference/{file}: {error}"));
        return;
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    let differs = there.lines().zip(page.lines()).find(|(there, page)| there != page);
    assert!(
        there == page,
        "docs/reference/{file} is stale (first difference: {differs:?}); renew it with `MESH_RENEW=1 cargo test --workspace reference`"
    );
}

/// Table in Markdown; pipes and line ends in cells are escaped.
#[must_use]
pub fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut text = line(head.iter().map(|cell| (*cell).to_owned()).collect());
    text.push_str(&line(head.iter().map(|_| "---".to_owned()).collect()));
    for row in rows {
        text.push_str(&line(
            row.iter()
                .map(|cell| cell.replace('|', "\\|").replace('\n', " "))
                .collect(),
        ));
    }
    text
}

/// Text as code in Markdown; empty text stays empty.
#[must_use]
pub fn code(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!("`{text}`")
    }
}
