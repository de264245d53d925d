//! Prometheus text format, the part that a scrape needs: one line is a series and its value.
//!
//! Not the crate `prometheus-parse`: it builds a map of owned strings per line, and this is read for every proxy every
//! second. Here a line of a known series (nearly all of them) costs no allocation: its text is hashed as it stands.

/// Sample line, split but not unescaped: most lines of a scrape are of known series.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Line<'a> {
    /// Name and labels as written; a proxy writes a series the same way in every scrape.
    pub series: &'a str,
    pub name: &'a str,
    /// Text between the braces.
    pub labels: &'a str,
    pub value: f64,
}

/// Returns the sample lines of a scrape. Other lines are ignored.
pub fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    text.lines()
        .filter(|l| !l.starts_with('#') && !l.is_empty())
        .filter_map(line)
}

fn line(text: &str) -> Option<Line<'_>> {
    let name_end = text.find(|c: char| c == '{' || c.is_whitespace())?;
    let name = &text[..name_end];
    let rest = &text[name_end..];
    let (labels, series_end) = match rest.strip_prefix('{') {
        Some(inner) => {
            let end = closing_brace(inner)?;
            (&inner[..end], name_end + end + 2)
        }
        None => ("", name_end),
    };
    // The time of the scrape counts, not a timestamp after the value.
    let value = text[series_end..].split_whitespace().next()?;
    Some(Line {
        series: &text[..series_end],
        name,
        labels,
        value: value.parse().ok()?,
    })
}

/// Offset of the brace that ends the labels; braces inside quoted values do not.
fn closing_brace(text: &str) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'}' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// Pairs of a label text.
pub fn labels(mut text: &str) -> Vec<(&str, String)> {
    let mut pairs = Vec::new();
    while let Some((key, rest)) = text.split_once("=\"") {
        let (value, rest) = unquote(rest);
        pairs.push((key.trim_start_matches([',', ' ']), value));
        text = rest;
    }
    pairs
}

/// Value up to its closing quote, unescaped, and the rest of the text.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, other)) => value.push(other),
                None => break,
            },
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_lines_at_unquoted_braces() {
        let text = "# HELP a b\n# TYPE a counter\na{x=\"1\",y=\"}\\\"\\n,z=\\\\\"} 5\nb 1.5e3 1700000000\n\nc{} +Inf\nbad{x=\"1\" 3\nworse\n# EOF\n";
        let found: Vec<_> = lines(text).collect();
        assert_eq!(
            found.iter().map(|l| (l.name, l.value)).collect::<Vec<_>>(),
            [("a", 5.0), ("b", 1500.0), ("c", f64::INFINITY)]
        );
        assert_eq!(
            labels(found[0].labels),
            [("x", "1".to_owned()), ("y", "}\"\n,z=\\".to_owned())]
        );
        assert_eq!(found[1].series, "b");
        assert!(labels(found[2].labels).is_empty());
    }
}
