//! Rust files as the rules see them: code, comments, literals, functions, items.

use std::{fs, ops::Range, path::Path, sync::LazyLock};

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};
use syn::Lit;

use crate::{
    items::Items,
    workspace::{Package, ROOT, packages},
};

/// One file. Lines are counted from 0.
pub(crate) struct Source {
    /// Path from the root.
    pub(crate) path: String,
    /// Path of its package from the root.
    pub(crate) package: String,
    pub(crate) text: String,
    /// The text with comments and literals blanked; lines and columns stay.
    pub(crate) code: String,
    /// The text with everything but comments blanked.
    pub(crate) comments: String,
    /// Values of the text literals, with their lines.
    pub(crate) literals: Vec<(usize, String)>,
    /// Functions that have a body.
    pub(crate) functions: Vec<Function>,
    pub(crate) items: Items,
}

/// One function.
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    /// Length, signature and closing brace included.
    pub(crate) lines: usize,
}

/// All files of the workspace, by package.
static FILES: LazyLock<Vec<Source>> = LazyLock::new(|| {
    let packages = packages();
    packages.iter().flat_map(|package| read(package, &packages)).collect()
});

/// All files of the workspace.
pub(crate) fn all() -> &'static [Source] {
    &FILES
}

/// The files of a package, without those of packages inside it.
pub(crate) fn in_package(package: &Package) -> impl Iterator<Item = &'static Source> {
    FILES.iter().filter(move |file| file.package == package.path)
}

fn read(package: &Package, packages: &[Package]) -> Vec<Source> {
    let prefix = format!("{}/", package.path);
    let inner = |path: &str| {
        packages
            .iter()
            .any(|other| other.path.starts_with(&prefix) && path.starts_with(&format!("{}/", other.path)))
    };
    let files = files_below(&ROOT.join(&package.path)).into_iter();
    files
        .filter(|path| has_extension(path, "rs") && !inner(path))
        .map(|path| {
            let text = fs::read_to_string(ROOT.join(&path)).expect("a source file is UTF-8");
            Source::new(path, package.path.clone(), text)
        })
        .collect()
}

/// Returns true if a path has the file extension.
pub(crate) fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|found| found == extension)
}

/// Paths from the root of all files below a folder, sorted, without build output and the repository's own data.
pub(crate) fn files_below(folder: &Path) -> Vec<String> {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .expect("a folder can be read")
        .flatten()
        .map(|entry| entry.path())
        .collect();
    entries.sort();
    let mut files = Vec::new();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !path.is_dir() {
            let path = path.strip_prefix(&*ROOT).expect("a member is below the root");
            files.push(path.to_string_lossy().into_owned());
        } else if !["target", ".target", ".git"].contains(&&*name) {
            files.extend(files_below(&path));
        }
    }
    files
}

impl Source {
    pub(crate) fn new(path: String, package: String, text: String) -> Self {
        let tokens: TokenStream = text
            .parse()
            .unwrap_or_else(|error| panic!("{path} cannot be split into tokens: {error}"));
        let file = syn::parse2(tokens.clone()).unwrap_or_else(|error| panic!("{path} is not Rust: {error}"));
        let mut scanner = Scanner {
            text: text.as_bytes(),
            code: blank(&text),
            comments: text.clone().into_bytes(),
            literals: vec![],
            functions: vec![],
        };
        scanner.scan(tokens);
        let code = String::from_utf8(scanner.code).expect("whole tokens are UTF-8");
        let comments = String::from_utf8(scanner.comments).expect("text without whole tokens is UTF-8");
        Self {
            code,
            comments,
            literals: scanner.literals,
            functions: scanner.functions,
            items: Items::new(&file),
            path,
            package,
            text,
        }
    }

    /// Returns whether all of it is tests or benchmarks.
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
}

/// Spaces in place of everything but line breaks.
fn blank(text: &str) -> Vec<u8> {
    text.bytes().map(|b| if b == b'\n' { b } else { b' ' }).collect()
}

/// Sorts a file's tokens. Functions are found among tokens rather than items, so that those inside macros count.
struct Scanner<'a> {
    text: &'a [u8],
    code: Vec<u8>,
    comments: Vec<u8>,
    literals: Vec<(usize, String)>,
    functions: Vec<Function>,
}

impl Scanner<'_> {
    fn scan(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (at, token) in tokens.iter().enumerate() {
            // A doc comment is the tokens of an attribute, each of which spans all of the comment.
            if self.is_comment(token.span()) {
                continue;
            }
            match token {
                TokenTree::Group(group) => {
                    self.code(group.span_open());
                    self.scan(group.stream());
                    self.code(group.span_close());
                }
                TokenTree::Literal(literal) => {
                    self.blank_comments(literal.span().byte_range());
                    let text = match Lit::new(literal.clone()) {
                        Lit::Str(text) => text.value(),
                        Lit::ByteStr(bytes) => String::from_utf8_lossy(&bytes.value()).into_owned(),
                        Lit::CStr(text) => text.value().to_string_lossy().into_owned(),
                        _ => continue,
                    };
                    self.literals.push((literal.span().start().line - 1, text));
                }
                TokenTree::Ident(ident) => {
                    self.code(ident.span());
                    if ident == "fn" {
                        self.functions.extend(function(ident.span(), &tokens[at + 1..]));
                    }
                }
                TokenTree::Punct(punct) => self.code(punct.span()),
            }
        }
    }

    fn is_comment(&self, span: Span) -> bool {
        let text = &self.text[span.byte_range()];
        text.starts_with(b"//") || text.starts_with(b"/*")
    }

    fn code(&mut self, span: Span) {
        let range = span.byte_range();
        self.code[range.clone()].copy_from_slice(&self.text[range.clone()]);
        self.blank_comments(range);
    }

    fn blank_comments(&mut self, range: Range<usize>) {
        let bytes = self.comments[range].iter_mut();
        bytes.filter(|b| **b != b'\n').for_each(|b| *b = b' ');
    }
}

/// The function whose tokens follow the keyword; none for a type, or where there is no body.
fn function(keyword: Span, tokens: &[TokenTree]) -> Option<Function> {
    let TokenTree::Ident(name) = tokens.first()? else {
        return None;
    };
    let body = tokens.iter().find_map(|token| match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Some(Ok(group)),
        TokenTree::Punct(punct) if punct.as_char() == ';' => Some(Err(())),
        _ => None,
    });
    let body: &Group = body?.ok()?;
    let line = keyword.start().line - 1;
    Some(Function {
        name: name.to_string(),
        line,
        lines: body.span_close().end().line - line,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new("a.rs".into(), String::new(), text.into())
    }

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
inside! { fn three() {} }
"##;
        let source = source(text);
        let found: Vec<_> = source.functions.iter().map(|f| (&*f.name, f.line, f.lines)).collect();
        assert_eq!(
            found,
            [("one", 1, 1), ("two", 2, 10), ("given", 12, 1), ("three", 14, 1)]
        );
    }

    #[test]
    fn separates_literals_comments_and_code() {
        let text = "//! Head é\n\nconst A: &str = \"a\\\"b \\\n  c\"; // \"no\"\n/// Doc.\nconst B: &[u8] = br\"c\";\n/* x\n y */ type É = u8;\n";
        let source = source(text);
        assert_eq!(source.literals, [(2, "a\"b c".to_owned()), (5, "c".to_owned())]);
        let trimmed = |text: &str| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
        assert_eq!(
            trimmed(&source.comments),
            ["//! Head é", "", "", "// \"no\"", "/// Doc.", "", "/* x", "y */"]
        );
        assert_eq!(
            trimmed(&source.code),
            [
                "",
                "",
                "const A: &str =",
                ";",
                "",
                "const B: &[u8] =      ;",
                "",
                "type É = u8;"
            ]
        );
    }

    #[test]
    fn lines_before_tests_end_at_the_inline_module() {
        let source = source("const A: u8 = 1;\n#[cfg(test)]\nmod other;\n#[cfg(test)]\nmod tests {\n}\n");
        assert_eq!(source.lines_before_tests(), 3);
    }
}
