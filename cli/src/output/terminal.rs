//! The terminal on standard output: its size, and colours where it has them (not if `NO_COLOR` is set).

use console::{Style, Term};

/// Returns the number of columns, if standard output is a terminal.
pub(crate) fn columns() -> Option<usize> {
    let (_, columns) = Term::stdout().size_checked()?;
    (columns > 0).then_some(columns.into())
}

/// Returns the number of rows, if standard output is a terminal.
pub(crate) fn rows() -> Option<usize> {
    let (rows, _) = Term::stdout().size_checked()?;
    (rows > 0).then_some(rows.into())
}

/// Returns the number of terminal rows that a text occupies, including lines that wrap.
#[cfg(feature = "local")]
pub(crate) fn rows_of(text: &str, columns: usize) -> usize {
    let columns = columns.max(1);
    let lines = text
        .lines()
        .map(|line| console::measure_text_width(line).div_ceil(columns));
    lines.map(|rows| rows.max(1)).sum()
}

/// Colours the sign at the beginning of each line: √ and ok green, ‼ yellow, × and FAIL red.
pub(crate) fn paint(text: &str) -> String {
    paint_with(text, console::colors_enabled())
}

fn paint_with(text: &str, colors: bool) -> String {
    if !colors {
        return text.to_owned();
    }
    let line = |line: &str| {
        let (sign, rest) = line.split_at(line.find(char::is_whitespace).unwrap_or(line.len()));
        let style = match sign {
            "√" | "ok" => Style::new().green(),
            "‼" => Style::new().yellow(),
            "×" | "FAIL" => Style::new().red(),
            _ => return line.to_owned(),
        };
        format!("{}{rest}", style.force_styling(true).apply_to(sign))
    };
    text.split_inclusive('\n').map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paints_only_signs_and_only_with_colors() {
        let text = "√ fine\n× broken\n    hint: × is red\n";
        assert_eq!(paint_with(text, false), text);
        assert_eq!(
            paint_with(text, true),
            "\u{1b}[32m√\u{1b}[0m fine\n\u{1b}[31m×\u{1b}[0m broken\n    hint: × is red\n"
        );
    }

    #[test]
    fn counts_wrapped_lines() {
        assert_eq!(rows_of("a\n\n", 80), 2);
        assert_eq!(rows_of(&format!("{}\nb", "a".repeat(81)), 80), 3);
    }
}
