//! Result with upstream's figures and our targets.

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use serde::Serialize;

/// Target of the memory of a stream, in KiB.
const KIB: f64 = 4.0;
/// Target of the CPU time to open one, in ms.
const CPU_MS: f64 = 0.1;
/// Target of the time until 99 % have a change, in ms.
const CHANGE_MS: f64 = 80.0;
/// Targets.
pub(crate) const TARGETS: [f64; 3] = [KIB, CPU_MS, CHANGE_MS];
/// Number of streams of upstream's measurement.
pub(crate) const UPSTREAM_STREAMS: usize = 5_000;
/// Upstream, measured on such a machine with 5,000 streams: KiB, ms, ms.
const UPSTREAM: [(&str, [&str; 3]); 2] = [
    ("Destination.Get", ["44", "1", "271"]),
    ("OutboundPolicies.Watch", ["8.7", "0.05", "465"]),
];

/// Upstream's figures for such streams.
pub(crate) fn upstream(kind: &str) -> Option<[&'static str; 3]> {
    UPSTREAM.iter().find(|(of, _)| *of == kind).map(|(_, figures)| *figures)
}

/// Figures of one kind and number of streams.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) kind: &'static str,
    pub(crate) streams: usize,
    /// Program before they were opened.
    pub(crate) idle_mib: f64,
    pub(crate) kib_per_stream: f64,
    /// CPU time to open one and send the first message.
    pub(crate) cpu_ms_per_stream: f64,
    /// CPU time to send a change to one.
    pub(crate) cpu_ms_per_message: f64,
    /// CPU time of the client, on the same cores, to read it.
    pub(crate) client_cpu_ms_per_message: f64,
    pub(crate) change_p50_ms: f64,
    pub(crate) change_p99_ms: f64,
    pub(crate) change_max_ms: f64,
}

/// Result.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) endpoints: usize,
    pub(crate) connections: usize,
    pub(crate) measured: Vec<Measured>,
}

impl Report {
    /// Figures that miss their target.
    pub(crate) fn missed(&self) -> Vec<String> {
        let mut missed = vec![];
        for m in &self.measured {
            let figures = [
                ("KiB per stream", m.kib_per_stream, KIB),
                ("ms of CPU per stream", m.cpu_ms_per_stream, CPU_MS),
                ("ms until 99 % have a change", m.change_p99_ms, CHANGE_MS),
            ];
            for (what, is, most) in figures {
                if is > most {
                    missed.push(format!("{} × {}: {is:.2} {what} (≤ {most})", m.streams, m.kind));
                }
            }
        }
        missed
    }

    /// Renders a table.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_preset(UTF8_FULL_CONDENSED);
        table.set_header([
            "stream",
            "number",
            "KiB each",
            "CPU ms to open",
            "CPU ms a change",
            "client's CPU ms",
            "change p50 ms",
            "p99 ms",
            "max ms",
        ]);
        for m in &self.measured {
            table.add_row([
                m.kind.to_owned(),
                m.streams.to_string(),
                format!("{:.2}", m.kib_per_stream),
                format!("{:.3}", m.cpu_ms_per_stream),
                format!("{:.4}", m.cpu_ms_per_message),
                format!("{:.4}", m.client_cpu_ms_per_message),
                format!("{:.1}", m.change_p50_ms),
                format!("{:.1}", m.change_p99_ms),
                format!("{:.1}", m.change_max_ms),
            ]);
        }
        for (kind, [kib, cpu, change]) in UPSTREAM {
            let name = format!("upstream's {kind}");
            table.add_row([&name, &UPSTREAM_STREAMS.to_string(), kib, cpu, "", "", "", change, ""]);
        }
        let (kib, cpu, change) = (format!("≤ {KIB}"), format!("≤ {CPU_MS}"), format!("≤ {CHANGE_MS}"));
        table.add_row(["target", "", &kib, &cpu, "", "", "", &change, ""]);
        table
            .column_iter_mut()
            .skip(1)
            .for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        table.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_missed_figures_with_their_targets() {
        let good = Measured {
            kind: "Destination.Get",
            streams: 5_000,
            idle_mib: 9.0,
            kib_per_stream: 3.9,
            cpu_ms_per_stream: 0.09,
            cpu_ms_per_message: 0.01,
            client_cpu_ms_per_message: 0.002,
            change_p50_ms: 10.0,
            change_p99_ms: 79.0,
            change_max_ms: 300.0,
        };
        let slow = Measured {
            change_p99_ms: 81.0,
            ..good.clone()
        };
        let report = Report {
            endpoints: 50,
            connections: 50,
            measured: vec![good, slow],
        };
        let missed = report.missed();
        assert_eq!(missed.len(), 1, "{missed:?}");
        assert!(missed[0].contains("81.00 ms until 99 %"), "{missed:?}");
        assert!(report.table().contains("upstream's Destination.Get"));
    }
}
