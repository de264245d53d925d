//! Sizes of functions, files and crates.

use std::io::Write as _;

use crate::{
    assert_none,
    exceptions::SIZES,
    source::{self, Source},
    workspace::packages,
};

/// Lines of a function. The median good one has 4 to 9; the tail is what makes a codebase hard to read.
const FUNCTION: usize = 70;
/// Lines of a file, before its inline tests.
const FILE: usize = 600;
/// Lines of an inline module of tests; longer ones are files of their own.
const INLINE_TESTS: usize = 150;
/// Lines of a crate, without tests, above which it is reported, not refused: a crate is cut by meaning, never by size.
const CRATE: usize = 6_000;
/// Lines of the `main.rs` of a program that people run: it lists what the program is made of, and starts it.
const MAIN: usize = 40;

/// Violation of the limit `most`, unless an exception allows it.
fn check(what: String, lines: usize, most: usize) -> Option<String> {
    let most = SIZES
        .iter()
        .find(|size| size.what == what)
        .map_or(most, |size| size.lines);
    (lines > most).then(|| format!("{what}: {lines} lines, at most {most}"))
}

#[test]
fn functions_are_short() {
    let mut wrong = Vec::new();
    for file in source::all() {
        let checks = file.functions.iter().filter_map(|f| {
            check(format!("{}::{}", file.path, f.name), f.lines, FUNCTION)
                .map(|text| format!("{text} (line {})", f.line + 1))
        });
        wrong.extend(checks);
    }
    assert_none("a function has at most 70 lines", &wrong);
}

#[test]
fn files_are_short() {
    let mut wrong = Vec::new();
    for file in source::all() {
        let (lines, before_tests) = (file.text.lines().count(), file.lines_before_tests());
        let is_main = file.path.ends_with("src/main.rs") && !file.is_test();
        wrong.extend(check(
            file.path.clone(),
            before_tests,
            if is_main { MAIN } else { FILE },
        ));
        let tests = lines - before_tests;
        if tests > INLINE_TESTS {
            wrong.push(format!(
                "{}: inline tests of {tests} lines, at most {INLINE_TESTS}",
                file.path
            ));
        }
    }
    assert_none(
        "a file has at most 600 lines before its tests, a main.rs 40, inline tests 150",
        &wrong,
    );
}

#[test]
fn crates_over_the_usual_size_are_reported() {
    let mut report = Vec::new();
    for package in packages() {
        let own_tests = package.path.starts_with("tests/");
        let counted = source::in_package(&package).filter(|file| own_tests || !file.is_test());
        let lines: usize = counted.map(Source::lines_before_tests).sum();
        report.extend((lines > CRATE).then(|| format!("{}: {lines} lines", package.name)));
    }
    if report.is_empty() {
        return;
    }
    // Not by `eprintln!`, which the test harness hides unless the test fails.
    let text = format!("\ncrates over {CRATE} lines: {}\n", report.join(", "));
    std::io::stderr()
        .write_all(text.as_bytes())
        .expect("standard error is open");
}

#[test]
fn size_exceptions_are_needed() {
    let mut large: Vec<String> = Vec::new();
    for file in source::all() {
        let functions = file.functions.iter().filter(|f| f.lines > FUNCTION);
        large.extend(functions.map(|f| format!("{}::{}", file.path, f.name)));
        large.extend((file.lines_before_tests() > MAIN).then(|| file.path.clone()));
    }
    let idle = SIZES.iter().filter(|size| !large.iter().any(|what| what == size.what));
    assert_none(
        "these exceptions are not needed",
        &idle.map(|size| size.what.to_owned()).collect::<Vec<_>>(),
    );
}
