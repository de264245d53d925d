//! Rows of the result: name, our figure, target, upstream's figure.

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde::Serialize;

/// One figure.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    what: String,
    unit: &'static str,
    /// None if it could not be measured.
    ours: Option<f64>,
    /// None for a row that only informs.
    at_most: Option<f64>,
    upstream: String,
    /// Reason why it could not be measured.
    failed: Option<String>,
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, ours: f64, unit: &'static str) -> Self {
        Self {
            what: what.into(),
            unit,
            ours: Some(ours),
            at_most: None,
            upstream: String::new(),
            failed: None,
        }
    }

    pub(crate) fn most(mut self, most: f64) -> Self {
        self.at_most = Some(most);
        self
    }

    pub(crate) fn upstream(mut self, upstream: &str) -> Self {
        upstream.clone_into(&mut self.upstream);
        self
    }

    /// None for a row that only informs.
    fn is_met(&self) -> Option<bool> {
        match (self.ours, self.at_most) {
            (None, _) => Some(false),
            (Some(ours), Some(most)) => Some(ours <= most),
            (Some(_), None) => None,
        }
    }
}

/// Rows of all parts.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Rows(Vec<Row>);

impl Rows {
    /// Adds the rows of a part, or the reason why there are none.
    pub(crate) fn add(&mut self, part: &str, rows: Result<Vec<Row>>) {
        match rows {
            Ok(rows) => self.0.extend(rows),
            Err(error) => self.0.push(Row {
                ours: None,
                failed: Some(format!("{error:#}")),
                ..Row::new(part, 0.0, "")
            }),
        }
    }

    /// Rows that miss their target or could not be measured.
    pub(crate) fn missed(&self) -> Vec<String> {
        let missed = self.0.iter().filter(|row| row.is_met() == Some(false));
        missed
            .map(|row| match (&row.failed, row.ours, row.at_most) {
                (None, Some(ours), Some(most)) => format!("{}: {} {} (≤ {most})", row.what, number(ours), row.unit),
                (why, ..) => format!("{}: {}", row.what, why.clone().unwrap_or_default()),
            })
            .collect()
    }

    /// Renders Markdown.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_preset(ASCII_MARKDOWN);
        table.set_header(["measure", "mesh", "target", "upstream", "met"]);
        for row in &self.0 {
            let unit = if row.unit.is_empty() {
                String::new()
            } else {
                format!(", {}", row.unit)
            };
            table.add_row([
                format!("{}{unit}", row.what),
                row.ours.map_or_else(|| "-".to_owned(), number),
                row.at_most.map_or_else(String::new, |most| format!("≤ {most}")),
                row.upstream.clone(),
                match row.is_met() {
                    Some(true) => "yes".to_owned(),
                    Some(false) => row
                        .failed
                        .clone()
                        .map_or_else(|| "NO".to_owned(), |why| format!("NO: {why}")),
                    None => String::new(),
                },
            ]);
        }
        table
            .column_iter_mut()
            .skip(1)
            .take(3)
            .for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        let failed = self
            .0
            .iter()
            .filter_map(|row| Some(format!("\n{}: {}", row.what, row.failed.as_ref()?)));
        format!("{table}{}", failed.collect::<String>())
    }
}

/// Formats three significant digits.
fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 1.0 => format!("{value:.1}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.4}"),
    }
}

/// Quantile of sorted values; the first for a share of 0.
pub(crate) fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values
        .get((last as f64 * share).round() as usize)
        .copied()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_missed_when_it_is_worse_or_not_known() {
        let mut rows = Rows::default();
        let good = Row::new("a", 0.99, "ms").most(1.0).upstream("25–28");
        rows.add(
            "x",
            Ok(vec![good, Row::new("b", 2.0, "ms").most(1.0), Row::new("c", 7.0, "s")]),
        );
        rows.add("cluster", Err(anyhow::anyhow!("there is none")));
        assert_eq!(rows.missed(), ["b: 2.0 ms (≤ 1)", "cluster: there is none"]);
        let table = rows.table();
        assert!(
            table.contains("cluster: there is none") && table.contains("25–28"),
            "{table}"
        );
    }

    #[test]
    fn quantiles_are_values() {
        let values: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        assert_eq!((quantile(values.clone(), 0.5), quantile(values, 0.99)), (50.0, 99.0));
        assert_eq!(quantile(vec![3.0], 0.99), 3.0);
    }
}
