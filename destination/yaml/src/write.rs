//! Objects as YAML that every parser reads alike. `kubectl` parses YAML 1.1, where `on`, `yes` or `1_000` are not
//! strings; so every string that is not plain is quoted.

use serde_json::{Map, Value};

/// Words that YAML 1.1 or 1.2 does not parse as strings.
const WORDS: [&str; 11] = [
    "y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf",
];

/// Writes a value as a document.
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => object(&mut out, map, 0),
        Value::Array(list) if !list.is_empty() => array(&mut out, list, 0),
        scalar => {
            inline(&mut out, scalar, 0);
            out.push('\n');
        }
    }
    out
}

fn object(out: &mut String, map: &Map<String, Value>, depth: usize) {
    for (at, (key, value)) in map.iter().enumerate() {
        // The first key of a list element follows its dash.
        if at > 0 || !out.ends_with("- ") {
            indent(out, depth);
        }
        out.push_str(&scalar(key));
        out.push(':');
        nested(out, value, depth);
    }
}

fn nested(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            object(out, map, depth + 1);
        }
        // Lists are indented like their key, as kubectl does.
        Value::Array(list) if !list.is_empty() => {
            out.push('\n');
            array(out, list, depth);
        }
        value => {
            out.push(' ');
            inline(out, value, depth + 1);
            out.push('\n');
        }
    }
}

fn array(out: &mut String, list: &[Value], depth: usize) {
    for value in list {
        indent(out, depth);
        out.push_str("- ");
        match value {
            Value::Object(map) if !map.is_empty() => object(out, map, depth + 1),
            Value::Array(_) => {
                // A list within a list is rare enough for one line.
                out.push_str(&json(value));
                out.push('\n');
            }
            value => {
                inline(out, value, depth + 1);
                out.push('\n');
            }
        }
    }
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n("  ", depth));
}

fn inline(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::String(text) => match block(text, depth) {
            Some(block) => out.push_str(&block),
            None => out.push_str(&scalar(text)),
        },
        other => out.push_str(&json(other)),
    }
}

/// Writes a multi-line string as a block, where that is safe.
fn block(text: &str, depth: usize) -> Option<String> {
    let body = text.strip_suffix('\n').unwrap_or(text);
    let odd = |c: char| c.is_control() && c != '\n' || special(c);
    let plain = !body.is_empty() && !body.starts_with([' ', '\t', '\n']) && !body.ends_with('\n');
    if !text.contains('\n') || !plain || text.contains(odd) {
        return None;
    }
    let mut out = if text.ends_with('\n') {
        "|".to_owned()
    } else {
        "|-".to_owned()
    };
    for line in body.split('\n') {
        out.push('\n');
        if !line.is_empty() {
            indent(&mut out, depth);
            out.push_str(line);
        }
    }
    Some(out)
}

fn scalar(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "_-./@:".contains(c);
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let is_word = WORDS.iter().any(|word| text.eq_ignore_ascii_case(word));
    if starts && text.chars().all(safe) && !text.ends_with(':') && !is_word {
        return text.to_owned();
    }
    json(&Value::from(text))
}

/// Writes JSON, which is YAML except for a few characters.
fn json(value: &Value) -> String {
    let escape = |c: char| {
        if special(c) {
            format!("\\u{:04x}", u32::from(c))
        } else {
            c.to_string()
        }
    };
    value.to_string().chars().map(escape).collect()
}

/// Returns true for characters that JSON allows unescaped and YAML does not.
fn special(c: char) -> bool {
    matches!(
        c,
        '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn quotes_strings_that_yaml_would_misread() {
        for text in [
            "on",
            "Yes",
            "n",
            "null",
            "~",
            "1",
            "1e3",
            "0x1f",
            "1_000",
            "",
            " a",
            "a: b",
            "#c",
            "a:",
            "2020-01-01",
            "é",
        ] {
            assert!(write(&json!(text)).starts_with('"'), "{text:?}");
        }
        assert_eq!(
            write(&json!({"a": {"b": ["x/y:1", 2, {"c": "l\nm\n"}]}})),
            "a:\n  b:\n  - x/y:1\n  - 2\n  - c: |\n      l\n      m\n"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Written values are read back unchanged.
        #[test]
        fn yaml_round_trips(texts in proptest::collection::vec("[ -~\n\t\u{7f}\u{85}\u{2028}é]{0,12}", 1..6)) {
            let value = json!({"list": [texts.clone(), texts[0], {"a": texts[0], "b": {}}, []], (texts[0].clone()): {"x": texts}});
            let read = crate::one(&write(&value)).map_err(|error| {
                TestCaseError::fail(format!("{error}\n{}", write(&value)))
            })?;
            prop_assert_eq!(read, value);
        }
    }
}
