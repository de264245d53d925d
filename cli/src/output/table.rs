//! Tables as kubectl and Linkerd print them: no borders, three spaces between columns.

use comfy_table::{CellAlignment, ContentArrangement, Table as Lines, presets};

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
            column.set_padding((if at == 0 { 0 } else { 3 }, 0));
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

    /// Renders the lines, without trailing spaces.
    pub(crate) fn render(&self) -> String {
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
}
