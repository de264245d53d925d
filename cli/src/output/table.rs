//! Tables as kubectl and Linkerd print them: no borders, three spaces between columns, or fewer on a narrow terminal.

use comfy_table::{CellAlignment, ContentArrangement, Table as Lines, presets};

use super::terminal;

/// Spaces between columns.
const GAP: u16 = 3;

/// Alignment of a column.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// For names.
    Left,
    /// For figures.
    Right,
}

/// Table under construction.
pub(crate) struct Table {
    lines: Lines,
    columns: usize,
}

impl Table {
    /// Creates an empty table with these columns.
    pub(crate) fn new(columns: &[(&str, Align)]) -> Self {
        let mut lines = Lines::new();
        lines
            .load_preset(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled);
        lines.set_header(columns.iter().map(|(name, _)| *name));
        for (at, (_, align)) in columns.iter().enumerate() {
            let column = lines.column_mut(at).expect("the header has created the column");
            column.set_cell_alignment(match align {
                Align::Left => CellAlignment::Left,
                Align::Right => CellAlignment::Right,
            });
        }
        Self {
            lines,
            columns: columns.len(),
        }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.columns);
        self.lines.add_row(cells);
    }

    /// Renders the lines, without trailing spaces, so that they fit the terminal if possible.
    pub(crate) fn render(self) -> String {
        self.render_within(terminal::columns())
    }

    /// Renders the lines with the widest gap that fits into `width` columns; one space if none does.
    fn render_within(mut self, width: Option<usize>) -> String {
        for gap in (1..=GAP).rev() {
            let text = self.render_with_gap(gap);
            let widest = text.lines().map(console::measure_text_width).max().unwrap_or(0);
            if gap == 1 || width.is_none_or(|width| widest <= width) {
                return text;
            }
        }
        unreachable!("a gap of one always returns")
    }

    fn render_with_gap(&mut self, gap: u16) -> String {
        for (at, column) in self.lines.column_iter_mut().enumerate() {
            column.set_padding((if at == 0 { 0 } else { gap }, 0));
        }
        self.lines
            .lines()
            .map(|line| format!("{}\n", line.trim_end()))
            .collect::<Vec<_>>()
            .concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separates_columns_by_three_spaces_and_trims_lines() {
        let mut table = Table::new(&[("NAME", Align::Left), ("RPS", Align::Right), ("NOTE", Align::Left)]);
        table.row(vec!["web".into(), "12.0rps".into(), "x".into()]);
        table.row(vec!["voting".into(), "1.0rps".into(), String::new()]);
        assert_eq!(
            table.render(),
            "NAME         RPS   NOTE\nweb      12.0rps   x\nvoting    1.0rps\n"
        );
    }

    #[test]
    fn shrinks_gaps_to_fit_a_narrow_terminal() {
        let rendered = |width| {
            let mut table = Table::new(&[("NAME", Align::Left), ("RPS", Align::Right), ("NOTE", Align::Left)]);
            table.row(vec!["web".into(), "12.0rps".into(), "x".into()]);
            table.render_within(Some(width))
        };
        assert_eq!(rendered(21), "NAME       RPS   NOTE\nweb    12.0rps   x\n");
        assert_eq!(rendered(20), "NAME      RPS  NOTE\nweb   12.0rps  x\n");
        assert_eq!(rendered(5), "NAME     RPS NOTE\nweb  12.0rps x\n");
    }
}
