//! Chart values as a table: path, default and the comment above it in `values.yaml`.

use std::{fs, path::Path};

use tests_reference::{code, table};

/// Charts with values, in the order of the page.
pub(crate) const CHARTS: [&str; 4] = ["mesh-control-plane", "mesh-viz", "mesh-cni", "mesh-crds"];

/// Value in a `values.yaml`.
#[derive(Debug, PartialEq, Eq)]
struct Value {
    path: String,
    default: String,
    comment: String,
}

/// Section of the page about one chart.
pub(crate) fn section(chart: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../charts")
        .join(chart)
        .join("values.yaml");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let rows = read(&text)
        .into_iter()
        .map(|value| vec![code(&value.path), code(&value.default), value.comment]);
    format!("## {chart}\n\n{}\n", table(&["value", "default", "meaning"], rows))
}

/// Values with a `# --` comment, by indentation; list items and values without one belong to the value above them.
fn read(text: &str) -> Vec<Value> {
    let mut found = Vec::new();
    let mut parents: Vec<(usize, String)> = Vec::new();
    let mut comment: Option<String> = None;
    for line in text.lines() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        if let Some(first) = trimmed.strip_prefix("# -- ") {
            comment = Some(first.to_owned());
        } else if let Some(more) = trimmed.strip_prefix("# ") {
            if let Some(comment) = &mut comment {
                comment.push(' ');
                comment.push_str(more);
            }
        } else if let Some((key, rest)) = trimmed.split_once(':').filter(|(key, _)| is_key(key)) {
            parents.retain(|(at, _)| *at < indent);
            parents.push((indent, key.to_owned()));
            if let Some(comment) = comment.take() {
                let path: Vec<&str> = parents.iter().map(|(_, key)| key.as_str()).collect();
                found.push(Value {
                    path: path.join("."),
                    default: rest.trim().to_owned(),
                    comment,
                });
            }
        } else {
            comment = None;
        }
    }
    found
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
}

#[test]
fn reads_paths_defaults_and_comments() {
    let text = "# A file.\n\nproxy:\n  # -- Image name.\n  # In full.\n  image: a/b\n  log: x\n# -- Tag.\ntag: \"\"\n";
    let value = |path: &str, default: &str, comment: &str| Value {
        path: path.to_owned(),
        default: default.to_owned(),
        comment: comment.to_owned(),
    };
    assert_eq!(
        read(text),
        [
            value("proxy.image", "a/b", "Image name. In full."),
            value("tag", "\"\"", "Tag.")
        ]
    );
}
