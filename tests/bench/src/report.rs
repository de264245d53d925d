//! Result as a table and as JSON.

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use serde::Serialize;

use crate::{orders::Loaded, usage::Cpu};

/// Measurement of a pair.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measured {
    /// Measurement of the load.
    #[serde(serialize_with = "seen")]
    pub(crate) load: Loaded,
    /// CPU time of the client's sidecar per request.
    pub(crate) outbound: Cpu,
    /// CPU time of the server's sidecar per request.
    pub(crate) inbound: Cpu,
}

/// Measurements of all rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Connections.
    pub(crate) connections: usize,
    /// Length of a measurement.
    pub(crate) seconds: u64,
    /// mesh-proxy; empty if only the bare pair was measured.
    pub(crate) mesh: Vec<Measured>,
    /// The bare pair.
    pub(crate) bare: Vec<Measured>,
}

/// Comparison, as medians over the rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Ratios {
    /// Requests per second, mesh to bare.
    pub(crate) requests_per_second: f64,
    /// CPU time of the client's sidecar, mesh to bare.
    pub(crate) outbound: f64,
    /// CPU time of the server's sidecar, mesh to bare.
    pub(crate) inbound: f64,
    /// CPU time of both.
    pub(crate) both: f64,
}

/// Summary of a load: all its latencies would be thousands of lines.
fn seen<S: serde::Serializer>(load: &Loaded, serializer: S) -> Result<S::Ok, S::Error> {
    serde_json::json!({
        "requests": load.requests,
        "seconds": load.seconds,
        "p50_us": load.quantile(0.5),
        "p99_us": load.quantile(0.99),
        "p999_us": load.quantile(0.999),
    })
    .serialize(serializer)
}

impl Measured {
    pub(crate) fn rate(&self) -> f64 {
        self.load.requests as f64 / self.load.seconds
    }

    fn both_us(&self) -> f64 {
        self.outbound.total_us() + self.inbound.total_us()
    }
}

impl Report {
    /// Medians of the ratios within the rounds: slow changes of the machine cancel out.
    pub(crate) fn ratios(&self) -> Option<Ratios> {
        if self.mesh.is_empty() {
            return None;
        }
        let ratio = |of: fn(&Measured) -> f64| {
            median(
                self.mesh
                    .iter()
                    .zip(&self.bare)
                    .map(|(mesh, bare)| of(mesh) / of(bare))
                    .collect(),
            )
        };
        Some(Ratios {
            requests_per_second: ratio(Measured::rate),
            outbound: ratio(|m| m.outbound.total_us()),
            inbound: ratio(|m| m.inbound.total_us()),
            both: ratio(Measured::both_us),
        })
    }

    /// Renders a table.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_preset(UTF8_FULL_CONDENSED);
        table.set_header([
            "pair",
            "requests/s",
            "p50 µs",
            "p99 µs",
            "outbound CPU µs (user + system)",
            "inbound CPU µs",
        ]);
        for (name, measured) in [("mesh", &self.mesh), ("bare", &self.bare)] {
            if !measured.is_empty() {
                table.add_row(row(name, measured));
            }
        }
        if let Some(ratios) = self.ratios() {
            let two = |ratio: f64| format!("{ratio:.2}");
            let cells = [
                two(ratios.requests_per_second),
                String::new(),
                String::new(),
                two(ratios.outbound),
                two(ratios.inbound),
            ];
            table.add_row(std::iter::once("mesh ÷ bare".to_owned()).chain(cells));
        }
        table
            .column_iter_mut()
            .skip(1)
            .for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        table.to_string()
    }

    /// Renders JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "connections": self.connections,
            "seconds": self.seconds,
            "mesh": self.mesh,
            "bare": self.bare,
            "ratios": self.ratios(),
        })
    }
}

fn row(name: &str, measured: &[Measured]) -> Vec<String> {
    let of = |of: fn(&Measured) -> f64| median(measured.iter().map(of).collect());
    let cpu = |total: f64, user: f64, system: f64| format!("{total:.1} ({user:.1} + {system:.1})");
    vec![
        name.to_owned(),
        format!("{:.0}", of(Measured::rate)),
        format!("{:.0}", of(|m| m.load.quantile(0.5))),
        format!("{:.0}", of(|m| m.load.quantile(0.99))),
        cpu(
            of(|m| m.outbound.total_us()),
            of(|m| m.outbound.user_us),
            of(|m| m.outbound.system_us),
        ),
        cpu(
            of(|m| m.inbound.total_us()),
            of(|m| m.inbound.user_us),
            of(|m| m.inbound.system_us),
        ),
    ]
}

/// Median.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(requests: u64, us: f64) -> Measured {
        let cpu = Cpu {
            user_us: us,
            system_us: us,
        };
        let mut latencies = crate::orders::histogram();
        latencies.saturating_record_n(1, requests);
        let load = Loaded::new(&latencies, 1.0);
        Measured {
            load,
            outbound: cpu,
            inbound: cpu,
        }
    }

    #[test]
    fn ratios_are_medians_of_rounds() {
        // The machine was three times as slow in the second round, which says nothing about the pairs.
        let mesh = vec![measured(100, 12.0), measured(33, 36.0), measured(100, 12.0)];
        let bare = vec![measured(120, 10.0), measured(40, 30.0), measured(120, 10.0)];
        let report = Report {
            connections: 1,
            seconds: 1,
            mesh,
            bare,
        };
        let ratios = report.ratios().expect("both were measured");
        assert!((ratios.both - 1.2).abs() < 1e-9 && (ratios.requests_per_second - 100.0 / 120.0).abs() < 1e-9);
        assert!(report.table().contains("1.20"));
        assert_eq!((median(vec![3.0, 1.0]), median(vec![5.0])), (2.0, 5.0));
    }
}
