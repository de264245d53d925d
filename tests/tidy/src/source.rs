//! Rust files, as far as these laws need to understand them: code without comments and texts, literals, functions.

use std::{fs, path::Path};

use crate::workspace::{Package, ROOT, packages};

/// One file.
pub(crate) struct Source {
    /// From the root.
    pub(crate) path: String,
    /// As it is.
    pub(crate) text: String,
    /// The same with comments, and what is between quotes, blanked; lines stay where they are.
    pub(crate) code: String,
    /// Text literals with their lines, from 0.
    pub(crate) literals: Vec<(usize, String)>,
}

/// One function.
pub(crate) struct Function {
    pub(crate) name: String,
    /// Line that it begins on, from 0.
    pub(crate) line: usize,
    /// Lines, signature and closing brace included.
    pub(crate) lines: usize,
}

/// The files of a package, those of packages inside it left out.
pub(crate) fn of_package(package: &Package) -> Vec<Source> {
    let inner: Vec<String> = packages()
        .into_iter()
        .map(|p| p.path)
        .filter(|path| path.starts_with(&format!("{}/", package.path)))
        .collect();
    let mut files = Vec::new();
    collect(&ROOT.join(&package.path), &mut files);
    files.retain(|file| !inner.iter().any(|path| file.path.starts_with(&format!("{path}/"))));
    files
}

/// All files of the workspace.
pub(crate) fn all() -> Vec<Source> {
    packages().iter().flat_map(of_package).collect()
}

fn collect(folder: &Path, files: &mut Vec<Source>) {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .expect("a folder can be read")
        .flatten()
        .map(|e| e.path())
        .collect();
    entries.sort();
    for path in entries {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file is UTF-8");
            let path = path
                .strip_prefix(&*ROOT)
                .expect("a member is below the root")
                .to_string_lossy()
                .into_owned();
            files.push(Source::new(path, text));
        }
    }
}

impl Source {
    pub(crate) fn new(path: String, text: String) -> Self {
        let mut scanner = Scanner {
            rest: &text,
            line: 0,
            code: String::with_capacity(text.len()),
            literals: vec![],
        };
        scanner.run();
        let Scanner { code, literals, .. } = scanner;
        Self {
            path,
            text,
            code,
            literals,
        }
    }

    /// Whether all of it is tests, or benchmarks, which are as little of the product.
    pub(crate) fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs")
            || ["/tests/", "/benches/"].iter().any(|folder| self.path.contains(folder))
            || self.path.starts_with("tests/")
    }

    /// Lines before the first inline module of tests.
    pub(crate) fn lines_before_tests(&self) -> usize {
        let lines: Vec<&str> = self.code.lines().map(str::trim).collect();
        let begins = |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{');
        lines.windows(2).position(begins).unwrap_or(lines.len())
    }

    /// The functions that have a body.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut functions = Vec::new();
        for (at, _) in self.code.match_indices("fn ") {
            let before = self.code[..at].chars().next_back();
            let name: String = self.code[at + 3..]
                .trim_start()
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_') || name.is_empty() {
                continue;
            }
            if let Some(length) = body_end(&self.code[at..]) {
                let line = self.code[..at].matches('\n').count();
                let lines = self.code[at..at + length].matches('\n').count() + 1;
                functions.push(Function { name, line, lines });
            }
        }
        functions
    }
}

/// Where the body of the function that `code` begins with ends; none if it has no body.
fn body_end(code: &str) -> Option<usize> {
    let (mut round, mut curly) = (0usize, 0usize);
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => round += 1,
            ')' | ']' => round = round.saturating_sub(1),
            ';' if round == 0 && curly == 0 => return None,
            '{' if round == 0 || curly > 0 => curly += 1,
            '}' if curly == 1 => return Some(at + 1),
            '}' => curly = curly.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// Goes through a file and blanks comments and literals.
struct Scanner<'a> {
    rest: &'a str,
    line: usize,
    code: String,
    literals: Vec<(usize, String)>,
}

impl Scanner<'_> {
    fn run(&mut self) {
        let mut previous = ' ';
        while let Some(c) = self.rest.chars().next() {
            let in_word = previous.is_alphanumeric() || previous == '_';
            if self.rest.starts_with("//") {
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                self.blank(end);
            } else if self.rest.starts_with("/*") {
                self.blank(block_comment(self.rest));
            } else if let Some((open, close)) = raw_string(self.rest).filter(|_| !in_word) {
                self.literal(open, close);
            } else if c == '"' {
                let close = self.rest[1..].len() - plain_string(&self.rest[1..]).len() + 1;
                self.literal(1, close);
            } else if let Some(end) = char_literal(self.rest) {
                self.blank(end);
            } else {
                self.keep(c);
            }
            previous = c;
        }
    }

    fn keep(&mut self, c: char) {
        self.line += usize::from(c == '\n');
        self.code.push(c);
        self.rest = &self.rest[c.len_utf8()..];
    }

    fn blank(&mut self, end: usize) {
        let (blanked, rest) = self.rest.split_at(end);
        for c in blanked.chars() {
            self.line += usize::from(c == '\n');
            self.code.push(if c == '\n' { '\n' } else { ' ' });
        }
        self.rest = rest;
    }

    /// A literal whose text begins at `open`, and which is over at `close`.
    fn literal(&mut self, open: usize, close: usize) {
        let text = self.rest[open..close].trim_end_matches(['"', '#']);
        self.literals.push((self.line, text.to_owned()));
        self.blank(close);
    }
}

/// Where the block comment that `text` begins with ends; they nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0usize);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// Where the text of a raw string begins, and where the literal is over.
fn raw_string(text: &str) -> Option<(usize, usize)> {
    let tail = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = tail.len() - tail.trim_start_matches('#').len();
    let open = text.len() - tail.len() + hashes;
    text[open..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let close = text[open + 1..]
        .find(&end)
        .map_or(text.len(), |at| open + 1 + at + end.len());
    Some((open + 1, close))
}

/// What follows the string whose opening quote is before `text`.
fn plain_string(text: &str) -> &str {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return &text[at + 1..],
            _ => {}
        }
    }
    ""
}

/// Where the character literal that `text` begins with ends; none for a lifetime.
fn char_literal(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('\'')?;
    let first = inner.chars().next()?;
    if first == '\\' {
        let after = 1 + inner[1..].chars().next()?.len_utf8();
        return inner[after..].find('\'').map(|at| 1 + after + at + 1);
    }
    inner[first.len_utf8()..]
        .starts_with('\'')
        .then_some(1 + first.len_utf8() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_counted_from_signature_to_brace() {
        let text = r##"
fn one() { let a = '{'; let b = "}"; }
pub async fn two<'a>(
    x: [u8; 3], // {
) -> &'a str
where
    X: Y,
{
    /* { /* { */ } */
    let _ = r#"} " }"#;
    if x { y('\'', '\u{7d}') }
}
trait T { fn none(&self); fn given(&self) {} }
type F = fn (u8) -> u8;
"##;
        let functions = Source::new("a.rs".into(), text.into()).functions();
        let found: Vec<_> = functions.iter().map(|f| (f.name.as_str(), f.line, f.lines)).collect();
        assert_eq!(found, [("one", 1, 1), ("two", 2, 10), ("given", 12, 1)]);
    }

    #[test]
    fn literals_are_found_and_tests_cut_off() {
        let text = "const A: &str = \"a\\\"b\";\n// \"no\"\nconst B: &[u8] = br\"c\";\n#[cfg(test)]\nmod tests {\n}\n";
        let source = Source::new("a.rs".into(), text.into());
        assert_eq!(
            source.literals,
            [(0, "a\\\"b".trim_end_matches('"').to_owned()), (2, "c".to_owned())]
        );
        assert_eq!(source.lines_before_tests(), 3);
    }
}
