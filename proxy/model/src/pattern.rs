//! Regular expressions of routes. Their cost is counted before anything is compiled, so that an object's expressions
//! have a budget at little expense; they are compiled only where requests are matched.

use std::sync::{Arc, OnceLock};

use regex_syntax::{
    ast::{self, Ast, ClassPerlKind, ClassSet, ClassSetItem, RepetitionKind, RepetitionRange},
    hir::translate::Translator,
};

use crate::limits;

/// A regular expression that compares by its text, anchored at both ends. Compiled by [`Pattern::anchored`], or at the
/// first match if it was made by [`Pattern::uncompiled`].
#[derive(Clone, Debug)]
pub struct Pattern {
    text: Arc<str>,
    /// None if it cannot be compiled, and so matches nothing.
    regex: OnceLock<Option<regex::Regex>>,
}

/// Error for an invalid regular expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid regular expression {text:?}: {reason}")]
pub struct InvalidPattern {
    /// Text of the expression.
    pub text: String,
    /// Error of the parser.
    pub reason: String,
}

impl InvalidPattern {
    fn new(text: &str, reason: impl ToString) -> Self {
        let reason = reason.to_string();
        Self {
            text: text.to_owned(),
            reason,
        }
    }
}

impl Pattern {
    /// Compiles `text`, anchored at both ends; [`Pattern::as_str`] returns the original text.
    pub fn anchored(text: &str) -> Result<Self, InvalidPattern> {
        let regex = compile(text).map_err(|error| InvalidPattern::new(text, error))?;
        Ok(Self {
            text: text.into(),
            regex: OnceLock::from(Some(regex)),
        })
    }

    /// Wraps the text of an expression that [`cost`] accepts, for those who pass it on without matching anything.
    pub fn uncompiled(text: &str) -> Self {
        Self {
            text: text.into(),
            regex: OnceLock::new(),
        }
    }

    /// Text of the expression.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns true once the expression has been compiled.
    pub fn is_compiled(&self) -> bool {
        self.regex.get().is_some()
    }

    /// Returns true if the whole of `input` matches.
    pub fn is_match(&self, input: &str) -> bool {
        let regex = self.regex.get_or_init(|| compile(&self.text).ok());
        regex.as_ref().is_some_and(|regex| regex.is_match(input))
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

fn anchor(text: &str) -> String {
    format!("^(?:{text})$")
}

fn compile(text: &str) -> Result<regex::Regex, regex::Error> {
    regex::RegexBuilder::new(&anchor(text))
        .size_limit(limits::REGEX_BYTES.value)
        .build()
}

/// Estimates the bytes of a compiled expression from its syntax tree, rather too high than too low. Nothing is
/// compiled; an expression above [`limits::REGEX_BYTES`] is invalid, as it would not compile.
pub fn cost(text: &str) -> Result<usize, InvalidPattern> {
    let invalid = |reason: &dyn ToString| InvalidPattern::new(text, reason.to_string());
    let longest = limits::PATTERN_TEXT_BYTES.value;
    if text.len() > longest {
        let start: String = text.chars().take(20).collect();
        let reason = format!("it has {} bytes, the limit is {longest}", text.len());
        return Err(InvalidPattern::new(&format!("{start}…"), reason));
    }
    let whole = anchor(text);
    let tree = ast::parse::Parser::new()
        .parse(&whole)
        .map_err(|error| invalid(&error))?;
    let folds = ignores_case(&tree);
    let bytes = BASE.saturating_add(tree_cost(&tree, folds));
    if bytes > limits::REGEX_BYTES.value {
        return Err(invalid(&"it is too large"));
    }
    // Only now, as it expands the classes that have been counted.
    Translator::new()
        .translate(&whole, &tree)
        .map_err(|error| invalid(&error))?;
    Ok(bytes)
}

// Bytes of parts of compiled expressions, rounded up from measurements; a test compares them with the compiler.
const BASE: usize = 256;
const NODE: usize = 40;
const LITERAL: usize = 40;
const FOLDED_LITERAL: usize = 256;
const ITEM: usize = 72;
const WIDE_RANGE: usize = 1_280;
const DOT: usize = 1_024;
const COMPLEMENT: usize = 896;
const DIGIT: usize = 5_376;
const NOT_DIGIT: usize = 13_312;
const SPACE: usize = 1_024;
const NOT_SPACE: usize = 2_304;
const WORD: usize = 51_200;
/// Any property of Unicode: as much as the largest.
const PROPERTY: usize = 65_536;

/// Returns true if any part ignores case.
fn ignores_case(tree: &Ast) -> bool {
    let in_flags = |flags: &ast::Flags| flags.flag_state(ast::Flag::CaseInsensitive) == Some(true);
    match tree {
        Ast::Flags(set) => in_flags(&set.flags),
        Ast::Group(group) => group.flags().is_some_and(in_flags) || ignores_case(&group.ast),
        Ast::Repetition(repetition) => ignores_case(&repetition.ast),
        Ast::Alternation(all) => all.asts.iter().any(ignores_case),
        Ast::Concat(all) => all.asts.iter().any(ignores_case),
        _ => false,
    }
}

fn tree_cost(tree: &Ast, folds: bool) -> usize {
    let all = |parts: &[Ast], each: usize| {
        let cost = |part| tree_cost(part, folds).saturating_add(each);
        parts.iter().map(cost).fold(0, usize::saturating_add)
    };
    match tree {
        Ast::Empty(_) | Ast::Flags(_) | Ast::Assertion(_) => NODE,
        Ast::Literal(literal) => literal_cost(literal.c, folds),
        Ast::Dot(_) => DOT,
        Ast::ClassUnicode(_) => PROPERTY,
        Ast::ClassPerl(class) => perl_cost(class),
        Ast::ClassBracketed(class) => bracketed_cost(class, folds),
        Ast::Group(group) => tree_cost(&group.ast, folds).saturating_add(2 * NODE),
        Ast::Alternation(parts) => all(&parts.asts, NODE),
        Ast::Concat(parts) => all(&parts.asts, 0),
        Ast::Repetition(repetition) => {
            let copies = match &repetition.op.kind {
                RepetitionKind::ZeroOrOne | RepetitionKind::ZeroOrMore | RepetitionKind::OneOrMore => 1,
                RepetitionKind::Range(RepetitionRange::Exactly(max) | RepetitionRange::Bounded(_, max)) => *max,
                RepetitionKind::Range(RepetitionRange::AtLeast(min)) => min.saturating_add(1),
            };
            let one = tree_cost(&repetition.ast, folds).saturating_add(2 * NODE);
            one.saturating_mul(copies.max(1) as usize)
        }
    }
}

fn literal_cost(c: char, folds: bool) -> usize {
    if folds { FOLDED_LITERAL } else { LITERAL * c.len_utf8() }
}

fn perl_cost(class: &ast::ClassPerl) -> usize {
    match (&class.kind, class.negated) {
        (ClassPerlKind::Digit, false) => DIGIT,
        (ClassPerlKind::Digit, true) => NOT_DIGIT,
        (ClassPerlKind::Space, false) => SPACE,
        (ClassPerlKind::Space, true) => NOT_SPACE,
        (ClassPerlKind::Word, _) => WORD,
    }
}

fn bracketed_cost(class: &ast::ClassBracketed, folds: bool) -> usize {
    let set = set_cost(&class.kind, folds);
    if class.negated {
        // Gaps between ranges are ranges, too, and each may need more bytes than they do.
        return set.saturating_mul(3).saturating_add(COMPLEMENT);
    }
    set
}

fn set_cost(set: &ClassSet, folds: bool) -> usize {
    match set {
        ClassSet::Item(item) => item_cost(item, folds),
        ClassSet::BinaryOp(op) => set_cost(&op.lhs, folds)
            .saturating_add(set_cost(&op.rhs, folds))
            .saturating_add(COMPLEMENT),
    }
}

fn item_cost(item: &ClassSetItem, folds: bool) -> usize {
    match item {
        ClassSetItem::Empty(_) => NODE,
        ClassSetItem::Literal(literal) => literal_cost(literal.c, folds).max(ITEM),
        ClassSetItem::Range(range) if range.end.c.is_ascii() && !folds => ITEM,
        ClassSetItem::Range(_) => WIDE_RANGE,
        ClassSetItem::Ascii(class) if class.negated || folds => 2 * WIDE_RANGE,
        ClassSetItem::Ascii(_) => 4 * ITEM,
        ClassSetItem::Unicode(_) => PROPERTY,
        ClassSetItem::Perl(class) => perl_cost(class),
        ClassSetItem::Bracketed(class) => bracketed_cost(class, folds),
        ClassSetItem::Union(union) => {
            let items = union.items.iter().map(|item| item_cost(item, folds));
            items.fold(0, usize::saturating_add)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cost_is_never_less_than_the_compiler_takes() {
        let parts = [
            "",
            "a",
            "é",
            "/books/author",
            "[a-z]",
            "[^/]",
            ".",
            r"\d",
            r"\D",
            r"\s",
            r"\S",
            r"\w",
            r"\W",
            r"\p{L}",
            r"\pN",
            r"\p{Greek}",
            r"\p{Any}",
            r"\p{Cased}",
            r"\PL",
            r"[\w-]",
            r"[^\d]",
            "[[:alpha:]]",
            "[[:^alpha:]]",
            "[é-ü]",
            r"[\w&&[^\d]]",
            r"[\u{80}-\u{10ffff}]",
            "(foo|bar|baz)",
            r"\b",
            r"(?-u:\w)",
            r"\x41",
            "[abcé]",
        ];
        let wraps: [fn(&str) -> String; 9] = [
            |part| part.to_owned(),
            |part| format!("(?:{part})*"),
            |part| format!("(?:{part})+"),
            |part| format!("(?:{part})?"),
            |part| format!("(?:{part}){{7}}"),
            |part| format!("(?:{part}){{2,5}}"),
            |part| format!("(?:{part}){{3,}}"),
            |part| format!("(?i){part}"),
            |part| format!("/x/{part}/((?:{part}|y)*){{2}}"),
        ];
        for part in parts {
            for text in wraps.iter().map(|wrap| wrap(part)) {
                let Ok(bytes) = cost(&text) else {
                    assert!(text.contains('p') || text.contains('w') || text.contains('W'), "{text}");
                    continue;
                };
                let compiled = regex::RegexBuilder::new(&anchor(&text)).size_limit(bytes).build();
                assert!(compiled.is_ok(), "{text} takes more than {bytes} bytes");
            }
        }
    }

    #[test]
    fn rejects_what_is_too_long_too_large_or_invalid_without_compiling_it() {
        let longest = limits::PATTERN_TEXT_BYTES.value;
        assert!(cost(&"a".repeat(longest)).is_ok() && cost(&"a".repeat(longest + 1)).is_err());
        for text in [r"\w{100}", "((a{900}){900}){900}", r"(?i)(\p{L}\p{L}\p{L}\p{L}){5}"] {
            assert!(cost(text).expect_err(text).reason.contains("too large"), "{text}");
        }
        for text in [
            "(",
            "[z-a]",
            r"\p{Unknown}",
            "a{2,1}",
            &"(".repeat(3_000),
            "x{99999999999}",
        ] {
            assert!(cost(text).is_err(), "{text}");
            assert!(Pattern::anchored(text).is_err(), "{text}");
        }
    }

    #[test]
    fn patterns_match_the_whole_input_whenever_they_are_compiled() {
        for pattern in [
            Pattern::anchored("/a[0-9]+").expect("valid"),
            Pattern::uncompiled("/a[0-9]+"),
        ] {
            assert!(pattern.is_match("/a12") && !pattern.is_match("/a12/b"));
            assert_eq!(pattern, Pattern::uncompiled("/a[0-9]+"));
        }
        assert!(!Pattern::uncompiled("(").is_match("("));
    }
}
