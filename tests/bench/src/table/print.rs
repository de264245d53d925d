//! Lines of the table: figures, targets, and whether these are met.

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde::Serialize;

use crate::report::median;

/// One line.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Line {
    name: String,
    unit: &'static str,
    /// One per round.
    mesh: Vec<f64>,
    bare: Vec<f64>,
    peer: Vec<f64>,
    /// Mesh and bare pair, where all rounds are one measurement.
    pub(super) overall: Option<(f64, f64)>,
    /// Limit of the ratio to the bare pair.
    at_most: Option<f64>,
    at_least: Option<f64>,
    /// Limit of the value itself.
    limit: Option<f64>,
    floor: Option<f64>,
}

impl Line {
    pub(super) fn new(name: impl Into<String>, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            unit,
            mesh: vec![],
            bare: vec![],
            peer: vec![],
            overall: None,
            at_most: None,
            at_least: None,
            limit: None,
            floor: None,
        }
    }

    /// Line of one value.
    pub(super) fn absolute(name: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self::new(name, unit).with_values(vec![value], vec![], vec![])
    }

    pub(super) fn with_values(self, mesh: Vec<f64>, bare: Vec<f64>, peer: Vec<f64>) -> Self {
        Self {
            mesh,
            bare,
            peer,
            ..self
        }
    }

    pub(super) fn at_most(self, limit: f64) -> Self {
        let limit = Some(limit);
        Self { limit, ..self }
    }

    pub(super) fn at_least(self, floor: f64) -> Self {
        let floor = Some(floor);
        Self { floor, ..self }
    }

    pub(super) fn ratio_at_most(self, ratio: f64) -> Self {
        let at_most = Some(ratio);
        Self { at_most, ..self }
    }

    pub(super) fn ratio_at_least(self, ratio: f64) -> Self {
        let at_least = Some(ratio);
        Self { at_least, ..self }
    }

    /// Ratios of the rounds.
    fn ratios(&self) -> Vec<f64> {
        self.mesh
            .iter()
            .zip(&self.bare)
            .map(|(mesh, bare)| mesh / bare)
            .collect()
    }

    fn ratio(&self) -> Option<f64> {
        match self.overall {
            Some((mesh, bare)) => Some(mesh / bare),
            None if self.bare.is_empty() => None,
            None => Some(median(self.ratios())),
        }
    }

    /// Returns whether the target is met; none without a target.
    pub(super) fn is_met(&self) -> Option<bool> {
        let ratio = self.ratio().unwrap_or(f64::NAN);
        let value = median(self.mesh.clone());
        let checks = [
            self.at_most.map(|most| ratio <= most),
            self.at_least.map(|least| ratio >= least),
            self.limit.map(|limit| value <= limit),
            self.floor.map(|floor| value >= floor),
        ];
        checks.into_iter().flatten().reduce(|all, one| all && one)
    }

    fn target(&self) -> String {
        let parts = [
            self.at_most.map(|most| format!("≤ {most:.2} ×")),
            self.at_least.map(|least| format!("≥ {least:.2} ×")),
            self.limit.map(|limit| format!("≤ {limit} {}", self.unit)),
            self.floor.map(|floor| format!("≥ {floor} {}", self.unit)),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    fn cells(&self, has_peer: bool) -> Vec<String> {
        let value = |values: &[f64], overall: Option<f64>| match overall {
            _ if values.is_empty() => String::new(),
            Some(overall) => number(overall),
            None => number(median(values.to_vec())),
        };
        let mut cells = vec![
            format!("{}, {}", self.name, self.unit),
            value(&self.mesh, self.overall.map(|(mesh, _)| mesh)),
            value(&self.bare, self.overall.map(|(_, bare)| bare)),
        ];
        if has_peer {
            cells.push(value(&self.peer, None));
        }
        let ratios = self.ratios();
        let (least, most) = ratios.iter().fold((f64::MAX, f64::MIN), |(least, most), ratio| {
            (least.min(*ratio), most.max(*ratio))
        });
        cells.push(self.ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}")));
        cells.push(if ratios.len() > 1 {
            format!("{least:.2}–{most:.2}")
        } else {
            String::new()
        });
        cells.push(self.target());
        cells.push(match self.is_met() {
            Some(true) => "yes".to_owned(),
            Some(false) => "NO".to_owned(),
            None => String::new(),
        });
        cells
    }
}

fn number(value: f64) -> String {
    if value >= 1000.0 {
        format!("{value:.0}")
    } else if value < 2.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.1}")
    }
}

/// All lines, as Markdown.
pub(super) fn table(lines: &[Line]) -> String {
    let has_peer = lines.iter().any(|line| !line.peer.is_empty());
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    let peer = has_peer.then_some("peer");
    let header = ["measure", "mesh", "bare"].into_iter().chain(peer);
    table.set_header(header.chain(["ratio", "of rounds", "target", "met"]));
    for line in lines {
        table.add_row(line.cells(has_peer));
    }
    table
        .column_iter_mut()
        .skip(1)
        .for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_of_ratios_of_rounds_or_of_values() {
        let line = Line::new("x", "µs CPU").with_values(vec![11.0, 33.0, 12.0], vec![10.0, 30.0, 10.0], vec![]);
        assert_eq!(line.clone().is_met(), None);
        assert_eq!(line.clone().ratio_at_most(1.15).is_met(), Some(true), "the median");
        assert_eq!(line.clone().ratio_at_most(1.05).is_met(), Some(false));
        assert_eq!(line.clone().ratio_at_most(1.15).at_most(11.0).is_met(), Some(false));
        let mut all = line.ratio_at_least(2.0);
        all.overall = Some((30.0, 10.0));
        assert_eq!(all.is_met(), Some(true), "all rounds together");
        let text = table(&[all]);
        assert!(
            text.contains("3.00") && text.contains("1.10–1.20") && text.contains("≥ 2.00 ×"),
            "{text}"
        );
        assert_eq!(Line::absolute("x", "MiB", 8.5).at_most(8.0).is_met(), Some(false));
    }
}
