//! Commands of the README, so that they are tested as they stand.
//!
//! A block of commands follows a marker: `<!-- command: NAME -->`, then ```` ```sh ````.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Returns the root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns the commands of a block.
pub fn block(name: &str) -> Result<String, String> {
    let text = fs::read_to_string(root().join("README.md")).map_err(|error| format!("README.md: {error}"))?;
    find(&text, name).ok_or_else(|| format!("README.md has no lines after <!-- command: {name} -->"))
}

fn find(text: &str, name: &str) -> Option<String> {
    let marker = format!("<!-- command: {name} -->");
    let after = text.lines().skip_while(|line| line.trim() != marker).skip(1);
    let inside = after.skip_while(|line| !line.starts_with("```")).skip(1);
    let lines: Vec<&str> = inside.take_while(|line| !line.starts_with("```")).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn finds_a_block_by_its_marker() {
        let text = "<!-- command: a -->\n```sh\none\n```\n\n<!-- command: b -->\nwords\n```sh\ntwo\nthree\n```\nfour\n";
        assert_eq!(find(text, "b").as_deref(), Some("two\nthree"));
        assert_eq!(find(text, "a").as_deref(), Some("one"));
        assert_eq!(find(text, "c"), None);
    }
}
