//! Parser, bounded in what a text may cost.

use serde::de::DeserializeSeed;
use serde_json::Value;
use serde_saphyr::{DuplicateKeyPolicy, MergeKeyPolicy, Options, UserMessageFormatter, alias_limits, budget, options};

/// Start of every [`Invalid`]'s text.
pub const INVALID: &str = "invalid YAML";

/// Error of parsing a document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{INVALID}: {reason}")]
pub struct Invalid {
    /// Line of the text, from 1.
    pub line: usize,
    /// Reason given by the parser.
    pub reason: String,
}

/// Values in a document, aliases expanded. The largest object that an API server takes has about 100,000; a list of
/// many objects has more.
const NODES_MAX: usize = 2_000_000;
/// Depth of values in a document; the deepest custom resource definitions reach 40.
const DEPTH_MAX: usize = 100;
/// Events that aliases repeat in a document. Every anchor that is open then keeps a copy of each.
const REPEATS_MAX: usize = 100_000;

fn settings() -> Options {
    options! {
        budget: budget! {
            max_nodes: NODES_MAX,
            max_events: 2 * NODES_MAX,
            max_depth: DEPTH_MAX,
        },
        alias_limits: alias_limits! { max_total_replayed_events: REPEATS_MAX },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Merge,
        // `defaultMode: 0644` is 420 to kubectl.
        legacy_octal_numbers: true,
        // Not `y`, `on` and their like, which kubectl takes for booleans: as strings they fit no field that wants
        // one, so that they are refused, not misread.
        strict_booleans: true,
        with_snippet: false,
    }
}

/// One document of a YAML text.
#[derive(Copy, Clone, Debug)]
pub struct Document<'a> {
    /// Text without the markers.
    pub text: &'a str,
    /// Number of lines before it.
    pub before: usize,
}

/// Splits a YAML text into its documents; blank ones and comments alone are skipped.
pub fn documents(text: &str) -> impl Iterator<Item = Document<'_>> {
    let mut found = vec![];
    let (mut start, mut before, mut at) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let bare = line.trim_end();
        if bare == "---" || bare.starts_with("--- ") || bare == "..." {
            found.push(Document {
                text: &text[start..at],
                before,
            });
            // Content on the marker's own line belongs to the document that it opens.
            let own = if bare.len() > 3 { at + 4 } else { at + line.len() };
            (start, before) = (own, if bare.len() > 3 { number } else { number + 1 });
        }
        at += line.len();
    }
    found.push(Document {
        text: &text[start..],
        before,
    });
    found.into_iter().filter(|document| !blank(document.text))
}

fn blank(text: &str) -> bool {
    text.lines()
        .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
}

impl Document<'_> {
    /// Parses the document.
    pub fn value(self) -> Result<Value, Invalid> {
        serde_saphyr::from_str_with_options(self.text, settings()).map_err(|error| {
            let reason = error.render_with_formatter(&UserMessageFormatter);
            Invalid {
                line: line(&error).map_or_else(|| self.first_line(), |line| self.before + line),
                reason: reason.split(" at line ").next().unwrap_or(&reason).to_owned(),
            }
        })
    }

    /// Returns the line of the text, from 1, at which the content begins.
    pub fn first_line(self) -> usize {
        let skipped = self.text.lines().take_while(|line| blank(line)).count();
        self.before + skipped + 1
    }
}

/// Parses a text of one document; an empty one is null.
pub fn one(text: &str) -> Result<Value, Invalid> {
    Document { text, before: 0 }.value()
}

/// Parses all documents of a text.
pub fn all(text: &str) -> Result<Vec<Value>, Invalid> {
    documents(text).map(Document::value).collect()
}

/// Drives `seed` over a document; an error that it makes comes back with the line, from 1, where it was made.
pub fn walk<'de, S: DeserializeSeed<'de>>(text: &'de str, seed: S) -> Result<S::Value, (String, Option<usize>)> {
    let walked = serde_saphyr::with_deserializer_from_str_with_options(text, settings(), |deserializer| {
        seed.deserialize(deserializer)
    });
    walked.map_err(|error| (error.to_string(), line(&error)))
}

fn line(error: &serde_saphyr::Error) -> Option<usize> {
    let line = error.location()?.line();
    usize::try_from(line).ok().filter(|line| *line > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_numbers_as_kubectl_does() {
        let text =
            "{mode: 0644, on: 'on', off: off, t: true, big: 1_000, s: 1.2.3, n: ~, e: '', f: 1e3, v: v1, ip: ::1}";
        assert_eq!(
            one(text),
            Ok(json!({
                "mode": 420, "on": "on", "off": "off", "t": true, "big": 1000, "s": "1.2.3",
                "n": null, "e": "", "f": 1000.0, "v": "v1", "ip": "::1",
            }))
        );
    }

    #[test]
    fn expands_anchors_and_merge_keys() {
        let text = "base: &base {a: 1, b: 2}\nuse: *base\nmerged:\n  <<: *base\n  b: 3\n";
        assert_eq!(
            one(text),
            Ok(json!({"base": {"a": 1, "b": 2}, "use": {"a": 1, "b": 2}, "merged": {"a": 1, "b": 3}}))
        );
    }

    #[test]
    fn reads_every_document_with_its_line() {
        let text = "# head\n---\na: 1\n--- # note\nb: 2\n...\n---\n# nothing\n---\nc: [\n";
        let found: Vec<_> = documents(text).map(Document::value).collect();
        assert_eq!(found[..2], [Ok(json!({"a": 1})), Ok(json!({"b": 2}))]);
        assert_eq!(found[2].as_ref().expect_err("an open bracket").line, 10);
        assert_eq!(found.len(), 3);
        assert_eq!(all("a: 1\n---\nb: 2\n"), Ok(vec![json!({"a": 1}), json!({"b": 2})]));
        assert_eq!(one(""), Ok(Value::Null));
    }

    #[test]
    fn refuses_what_kubectl_would_guess_at() {
        for (text, line, reason) in [
            ("a: 1\nb: 2\na: 3\n", 3, "duplicate mapping key: a not allowed here"),
            ("a: *absent\n", 1, "reference to unknown value"),
            ("a: b: c\n", 1, "mapping values are not allowed in this context"),
            (
                "a: 1\n---\nb: 2\n",
                3,
                "only single YAML document expected but multiple found",
            ),
        ] {
            let error = one(text).expect_err(text);
            assert_eq!((error.line, error.reason.as_str()), (line, reason), "{text}");
        }
    }

    #[test]
    fn expansion_and_depth_are_bounded() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let inner = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb += &format!("a{level}: &a{level} [{inner}]\n");
        }
        assert!(bomb.len() < 1_000, "small text, 10^12 values");
        let error = one(&bomb).expect_err("an alias bomb");
        assert!(
            error.reason.contains("limit") || error.reason.contains("budget"),
            "{error}"
        );
        assert!(one(&"[".repeat(100_000)).is_err());
        assert!(one("x: &a [*a]\n").is_err());
    }
}
