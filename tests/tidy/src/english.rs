//! Language: what can be checked of the style guide's section on English.

use std::{collections::BTreeMap, fs};

use crate::{
    assert_none,
    exceptions::{self, Exception, LANGUAGE, NAMES, NOT_YET},
    items::{Kind, Scope},
    source::{self, Source},
    workspace::ROOT,
};

/// Columns of a line with a comment.
const WIDTH: usize = 120;
/// Words that begin a question. A doc comment begins with a noun or a verb instead.
const QUESTIONS: [&str; 9] = [
    "What", "Who", "Whom", "Whose", "Which", "How", "Where", "Whether", "Why",
];
/// Words and phrases, in lower case, that have a plainer one.
const BANNED: [&str; 16] = [
    "nobody",
    "somebody",
    "whoever",
    "whomever",
    "wish",
    "wishes",
    "wished",
    "told",
    "believed",
    "trial",
    "trials",
    "for ever",
    "under way",
    "of the moment",
    "by and by",
    "have no right",
];
/// Words after "is no" that make it right: "is no longer", "is no more than".
const COMPARATIVES: [&str; 7] = ["longer", "more", "less", "later", "earlier", "greater", "fewer"];
/// Attributes of clap that are help texts.
const HELP: [&str; 4] = ["about", "long_about", "help", "help_heading"];

/// Violations of one file, as `path:line: reason`.
struct Findings<'a> {
    path: &'a str,
    found: Vec<String>,
}

impl Findings<'_> {
    fn add(&mut self, line: usize, reason: impl std::fmt::Display) {
        self.found.push(format!("{}:{}: {reason}", self.path, line + 1));
    }

    fn text(&mut self, line: usize, text: &str) {
        if let Some(reason) = wording(text) {
            self.add(line, reason);
        }
    }
}

/// Returns the first fault in the wording of a text.
fn wording(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    for (at, pair) in words.windows(2).enumerate() {
        let before = at.checked_sub(1).map_or("", |before| words[before]);
        let Some(after) = words.get(at + 2).map(|after| bare(after)) else {
            break; // The next line may begin with "longer".
        };
        if ["is", "are", "was", "were", "be"].contains(&pair[0].trim_start_matches(['(', '"', '`']))
            && bare(pair[1]) == "no"
            && !before.eq_ignore_ascii_case("there")
            && !COMPARATIVES.contains(&after)
        {
            return Some(format!("\"{} no {after}\": write \"{0} not a {after}\"", pair[0]));
        }
    }
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    let words: Vec<String> = words.filter(|word| !word.is_empty()).map(str::to_lowercase).collect();
    let text = format!(" {} ", words.join(" "));
    let banned = BANNED.into_iter().find(|word| text.contains(&format!(" {word} ")));
    banned.map(|word| format!("banned: {word:?}"))
}

fn bare(word: &str) -> &str {
    word.trim_matches(|c: char| !c.is_alphanumeric())
}

fn is_question(text: &str) -> bool {
    let word = text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    QUESTIONS.contains(&word)
}

fn check_rust(file: &Source) -> Vec<String> {
    let mut findings = Findings {
        path: &file.path,
        found: vec![],
    };
    let mut in_doc = false;
    for (number, (line, comment)) in file.text.lines().zip(file.comments.lines()).enumerate() {
        let comment = comment.trim();
        let doc = ["///", "//!"].iter().find_map(|start| comment.strip_prefix(start));
        if doc.is_some_and(|doc| !in_doc && is_question(doc.trim_start())) {
            findings.add(number, "a doc comment begins with a question word");
        }
        in_doc = doc.is_some();
        findings.text(number, comment);
        if !comment.is_empty() && line.chars().count() > WIDTH {
            findings.add(number, "a comment wider than 120 columns");
        }
        let code = file.code.lines().nth(number).unwrap_or_default();
        let is_help = HELP.iter().any(|name| code.contains(&format!("{name} =")));
        let asks = |(at, text): &(usize, String)| *at == number && is_question(text);
        if is_help && file.literals.iter().any(asks) {
            findings.add(number, "a help text begins with a question word");
        }
    }
    for (number, text) in &file.literals {
        findings.text(*number, text);
    }
    for function in &file.functions {
        if function.name == "of" || function.name.starts_with("of_") {
            findings.add(
                function.line,
                "a constructor is called `new`, `from_x`, `parse` or `with_x`",
            );
        }
        if is_riddle(&function.name) {
            findings.add(function.line, format!("`{}` does not name a behaviour", function.name));
        }
    }
    findings.found
}

/// Returns whether a function's name is a clause instead of a behaviour, such as `who_was_let_in`.
fn is_riddle(name: &str) -> bool {
    let first = name.split('_').next().unwrap_or_default();
    let asks = name.contains('_') && QUESTIONS.iter().any(|word| word.to_lowercase() == first);
    asks || ["_is_no_", "_are_no_", "nobody", "somebody", "_told"]
        .iter()
        .any(|part| name.contains(part))
}

/// Checks manifests, templates, configuration and pages: comments, and prose where a file is nothing else.
fn check_other(path: &str, text: &str) -> Vec<String> {
    let mut findings = Findings { path, found: vec![] };
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let comment = ["#", "{{- /*", "{{-/*", "{{/*"]
            .iter()
            .find_map(|start| line.strip_prefix(start));
        let comment = comment.map(|text| text.trim_start_matches('#').trim_start());
        let is_heading = source::has_extension(path, "md");
        if comment.is_some_and(|text| !is_heading && is_question(text)) {
            findings.add(number, "a comment begins with a question word");
        }
        if line
            .split_once("\"description\": \"")
            .is_some_and(|(_, text)| is_question(text))
        {
            findings.add(number, "a description begins with a question word");
        }
        findings.text(number, comment.unwrap_or(line));
    }
    findings.found
}

/// Returns whether a file other than Rust has texts for people.
fn is_prose(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let by_end = ["yaml", "tpl", "md", "toml"]
        .iter()
        .any(|end| name.rsplit_once('.').is_some_and(|(_, extension)| extension == *end));
    let by_name = [
        "Dockerfile",
        "NOTES.txt",
        "values.schema.json",
        "run",
        "dist-cc",
        "used",
    ]
    .contains(&name);
    (by_end || by_name) && !path.contains("recorded")
}

/// All violations of the tree.
fn violations() -> Vec<String> {
    let mut found: Vec<String> = source::all().iter().flat_map(check_rust).collect();
    for path in source::files_below(&ROOT).iter().filter(|path| is_prose(path)) {
        if let Ok(text) = fs::read_to_string(ROOT.join(path)) {
            found.extend(check_other(path, &text));
        }
    }
    found
}

#[test]
fn texts_follow_the_style_guide() {
    let mut found = violations();
    found.retain(|at| exceptions::is_checked(at) && !LANGUAGE.iter().any(|exception| exception.covers(at)));
    assert_none("texts follow the style guide", &found);
}

#[test]
fn language_exceptions_are_needed() {
    let found = violations();
    let idle = LANGUAGE
        .iter()
        .chain(NOT_YET)
        .filter(|exception| !found.iter().any(|at| exception.covers(at)));
    assert_none("these exceptions are not needed", &exceptions::list(idle));
}

/// Types of a crate that share their name, as `package: name (path:line, …)`.
fn shared_names() -> Vec<String> {
    let mut types: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for file in source::all().iter().filter(|file| !file.is_test()) {
        let items = file.items.items.iter();
        for item in items.filter(|item| item.kind == Kind::Type && item.visibility != Scope::Less) {
            let places = types.entry((&file.package, &item.name)).or_default();
            places.push(format!("{}:{}", file.path, item.line + 1));
        }
    }
    types.retain(|_, places| places.len() > 1);
    let text = |((package, name), places): (_, Vec<String>)| format!("{package}: {name} ({})", places.join(", "));
    types.into_iter().map(text).collect()
}

#[test]
fn type_names_are_unique_within_a_crate() {
    let mut found = shared_names();
    found.retain(|shared| {
        let is_allowed = |e: &Exception| shared.starts_with(&format!("{} (", e.what));
        exceptions::is_checked(shared) && !NAMES.iter().any(is_allowed)
    });
    assert_none("two types of a crate that others may name have different names", &found);
}

#[test]
fn name_exceptions_are_needed() {
    let found = shared_names();
    let is_needed = |e: &&Exception| found.iter().any(|shared| shared.starts_with(&format!("{} (", e.what)));
    let idle = NAMES.iter().filter(|e| !is_needed(e));
    assert_none("these exceptions are not needed", &exceptions::list(idle));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rust(text: &str) -> Vec<String> {
        check_rust(&Source::new("a.rs".into(), String::new(), text.into()))
    }

    #[test]
    fn rejects_what_is_not_plain_english() {
        let not_x = concat!("x is ", "no JSON");
        for (text, line) in [
            (format!("/// {} it is.\nfn a() {{}}", "What"), 1),
            (format!("//! Head.\n\n// {not_x}\n"), 3),
            (format!("fn a() {{ b(\"{not_x}\") }}"), 1),
            (format!("fn a() {{ b(\"to {}y\") }}", concat!("some", "bod")), 1),
            (format!("// {}\n", "wide ".repeat(30)), 1),
            ("fn of(x: u8) {}".to_owned(), 1),
            ("\nfn which_is_left() {}".to_owned(), 2),
            (format!("#[arg(help = \"{} form\")]\nstruct A;", "Which"), 1),
        ] {
            let found = rust(&text);
            assert!(
                found.len() == 1 && found[0].starts_with(&format!("a.rs:{line}: ")),
                "{text}: {found:?}"
            );
        }
    }

    #[test]
    fn accepts_plain_english() {
        let text = "//! Head.\n\n/// Returns it.\n/// Which ones is said here.\nfn offer() { \"there is no x; it is no longer\"; }\n// How.\nfn which() {}\n";
        assert_eq!(rust(text), Vec::<String>::new());
    }

    #[test]
    fn checks_comments_of_other_files() {
        let found = check_other("a.yaml", &format!("a: 1\n# {} it is\n# Not a list\n", "How"));
        assert_eq!(found, ["a.yaml:2: a comment begins with a question word"]);
        assert!(check_other("a.md", "## How it works\n").is_empty());
    }
}
