//! How large a function, a file, a crate may be.

use crate::{
    assert_none,
    exceptions::SIZES,
    source::{self, Source},
    workspace::packages,
};

/// Lines of a function. The median good one has 4 to 9; a codebase gets its bad name from the tail.
const FUNCTION: usize = 70;
/// Lines of a file, before its inline tests.
const FILE: usize = 600;
/// Lines of an inline module of tests; more go to a file of their own.
const INLINE_TESTS: usize = 150;
/// Lines of a crate, without tests.
const CRATE: usize = 6_000;
/// Lines of the `main.rs` of a program that people run: it says what the program is made of, and begins it.
const MAIN: usize = 40;

/// How large `what` is, where it may be `most`, unless an exception says otherwise.
fn check(what: String, lines: usize, most: usize) -> Option<String> {
    let most = SIZES
        .iter()
        .find(|size| size.what == what)
        .map_or(most, |size| size.lines);
    (lines > most).then(|| format!("{what}: {lines} lines, at most {most}"))
}

fn function_checks(file: &Source) -> Vec<String> {
    let functions = file.functions();
    let check_one = |f: &source::Function| {
        check(format!("{}::{}", file.path, f.name), f.lines, FUNCTION)
            .map(|text| format!("{text} (line {})", f.line + 1))
    };
    functions.iter().filter_map(check_one).collect()
}

#[test]
fn functions_are_short() {
    let wrong: Vec<String> = source::all().iter().flat_map(function_checks).collect();
    assert_none("a function has at most 70 lines", &wrong);
}

#[test]
fn files_are_short() {
    let mut wrong = Vec::new();
    for file in source::all() {
        let (lines, before_tests) = (file.text.lines().count(), file.lines_before_tests());
        wrong.extend(check(
            file.path.clone(),
            before_tests,
            if file.path.ends_with("src/main.rs") && !file.is_test() {
                MAIN
            } else {
                FILE
            },
        ));
        if lines - before_tests > INLINE_TESTS {
            wrong.push(format!(
                "{}: inline tests of {} lines, at most {INLINE_TESTS}",
                file.path,
                lines - before_tests
            ));
        }
    }
    assert_none(
        "a file has at most 600 lines before its tests, a main.rs 40, inline tests 150",
        &wrong,
    );
}

#[test]
fn crates_are_small() {
    let mut wrong = Vec::new();
    for package in packages() {
        let files = source::of_package(&package);
        let own_tests = package.path.starts_with("tests/");
        let counted = files.iter().filter(|file| own_tests || !file.is_test());
        let lines = counted.map(Source::lines_before_tests).sum();
        wrong.extend(check(package.name, lines, CRATE));
    }
    assert_none("a crate has at most 6,000 lines without its tests", &wrong);
}

#[test]
fn exceptions_are_needed() {
    let files = source::all();
    let mut large: Vec<String> = Vec::new();
    for file in &files {
        large.extend(
            file.functions()
                .iter()
                .filter(|f| f.lines > FUNCTION)
                .map(|f| format!("{}::{}", file.path, f.name)),
        );
        large.extend((file.lines_before_tests() > MAIN).then(|| file.path.clone()));
    }
    large.extend(packages().into_iter().map(|package| package.name));
    let idle = SIZES.iter().filter(|size| !large.iter().any(|what| what == size.what));
    assert_none(
        "these exceptions are not needed",
        &idle.map(|size| size.what.to_owned()).collect::<Vec<_>>(),
    );
}
