//! Code in doc comments: none that rustdoc would run, because `--tests` in the README leaves it out. Compiling the
//! documentation of forty crates to find no example in it took longer than the tests of many a crate.

use crate::{assert_none, source};

/// Languages that rustdoc runs, the empty one among them.
const RUN: [&str; 6] = ["", "rust", "should_panic", "no_run", "compile_fail", "edition2024"];

#[test]
fn doc_comments_have_no_tests() {
    let mut wrong = Vec::new();
    for file in source::all() {
        let mut is_open = false;
        for (number, line) in file.text.lines().enumerate() {
            let line = line.trim_start();
            let comment = line.strip_prefix("//!").or_else(|| line.strip_prefix("///"));
            let Some(language) = comment.and_then(|comment| comment.trim().strip_prefix("```")) else {
                continue;
            };
            is_open = !is_open;
            if is_open
                && RUN
                    .iter()
                    .any(|run| language.split(',').any(|part| part.trim() == *run))
            {
                wrong.push(format!("{}:{}", file.path, number + 1));
            }
        }
    }
    assert_none(
        "a test is a function with #[test], not an example that nothing runs",
        &wrong,
    );
}
