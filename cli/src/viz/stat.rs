//! `mesh viz stat`: success rates, request rates and latencies.

use std::time::Duration;

use anyhow::Result;
use viz_api::{Answer, Kind, Resource, StatRequest, StatRow};

use super::{Api, ApiFlags, NamespaceFlags, ViewFormat, note_source, resources, window};
use crate::output::{self, Align, Table, bytes_per_second, milliseconds, percent, requests_per_second};

/// Arguments of `mesh viz stat`.
#[derive(Debug, clap::Args)]
pub(crate) struct StatArgs {
    /// KIND, KIND/NAME or KIND NAME; kinds: deploy, po, ns, svc, au, sts, ds, rs, rc, job, cj, or all.
    #[arg(required = true, value_name = "RESOURCE")]
    resources: Vec<String>,
    #[command(flatten)]
    namespace: NamespaceFlags,
    /// Time window (for example 30s).
    #[arg(short, long, default_value = "1m", value_parser = window)]
    time_window: Duration,
    /// Restrict to traffic sent to this resource.
    #[arg(long, value_name = "RESOURCE", conflicts_with = "from")]
    to: Option<Resource>,
    /// Namespace of --to.
    #[arg(long, value_name = "NAMESPACE", requires = "to")]
    to_namespace: Option<String>,
    /// Restrict to traffic received from this resource.
    #[arg(long, value_name = "RESOURCE")]
    from: Option<Resource>,
    /// Namespace of --from.
    #[arg(long, value_name = "NAMESPACE", requires = "from")]
    from_namespace: Option<String>,
    /// Label selector (for example app=web,tier!=test).
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// Include resources without meshed pods.
    #[arg(long)]
    unmeshed: bool,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: ViewFormat,
    #[command(flatten)]
    source: ApiFlags,
}

/// `mesh viz stat`
pub(super) async fn run(args: StatArgs) -> Result<()> {
    let asked = resources::parse(&args.resources)?;
    let api = args.source.api().await?;
    let mut tables: Vec<(Kind, Vec<StatRow>)> = Vec::new();
    let mut source = None;
    for resource in asked {
        let kind = resource.kind;
        let answer: Answer<StatRow> = api.get(viz_api::STAT, &args.request(&api, resource)).await?;
        source = Some(answer.source);
        // Several names of one kind share a table.
        match tables.last_mut().filter(|(k, _)| *k == kind) {
            Some((_, rows)) => rows.extend(answer.rows),
            None => tables.push((kind, answer.rows)),
        }
    }
    if args.output == ViewFormat::Json {
        let rows: Vec<&StatRow> = tables.iter().flat_map(|(_, rows)| rows).collect();
        return output::print(&format!("{}\n", serde_json::to_string_pretty(&rows)?));
    }
    let prefixed = tables.len() > 1;
    let view = View {
        with_namespace: args.namespace.all_namespaces,
        wide: args.output == ViewFormat::Wide,
        prefixed,
    };
    let texts = tables.iter().filter(|(_, rows)| !rows.is_empty());
    let texts: Vec<String> = texts.map(|(kind, rows)| view.render(*kind, rows)).collect();
    if texts.is_empty() {
        eprintln!("No traffic found.");
    }
    output::print(&texts.join("\n"))?;
    if let Some(source) = source {
        note_source(&api, &source, args.output == ViewFormat::Wide);
    }
    Ok(())
}

impl StatArgs {
    fn request(&self, api: &Api, resource: Resource) -> StatRequest {
        StatRequest {
            namespace: self.namespace.get(api),
            labels: self.selector.clone(),
            window_ms: self.time_window.as_millis() as u64,
            to: self.to.clone(),
            to_namespace: self.to_namespace.clone(),
            from: self.from.clone(),
            from_namespace: self.from_namespace.clone(),
            unmeshed: self.unmeshed,
            ..StatRequest::of(resource)
        }
    }
}

/// Choice of columns.
struct View {
    with_namespace: bool,
    wide: bool,
    prefixed: bool,
}

impl View {
    fn render(&self, kind: Kind, rows: &[StatRow]) -> String {
        let split = rows.iter().any(|row| row.apex.is_some());
        let columns = self.columns(kind, split);
        let mut table = Table::new(&columns);
        for row in rows {
            table.row(self.cells(kind, row, split));
        }
        table.render()
    }

    fn columns(&self, kind: Kind, split: bool) -> Vec<(&'static str, Align)> {
        let mut columns = Vec::new();
        let mut names = |names: &[&'static str]| columns.extend(names.iter().map(|name| (*name, Align::Left)));
        if self.with_namespace && kind != Kind::Authority {
            names(&["NAMESPACE"]);
        }
        names(&["NAME"]);
        if kind == Kind::Pod {
            names(&["STATUS"]);
        }
        if split {
            names(&["APEX", "LEAF", "WEIGHT"]);
        }
        let figures = [
            "MESHED",
            "SUCCESS",
            "RPS",
            "LATENCY_P50",
            "LATENCY_P95",
            "LATENCY_P99",
            "TCP_CONN",
        ];
        let wide = ["READ_BYTES/SEC", "WRITE_BYTES/SEC", "SECURED"];
        let wide = if self.wide { &wide[..] } else { &[] };
        columns.extend(figures.iter().chain(wide).map(|name| (*name, Align::Right)));
        columns
    }

    fn cells(&self, kind: Kind, row: &StatRow, split: bool) -> Vec<String> {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let mut cells = Vec::new();
        if self.with_namespace && kind != Kind::Authority {
            cells.push(row.namespace.clone());
        }
        cells.push(if self.prefixed {
            format!("{}/{}", kind.short(), row.name)
        } else {
            row.name.clone()
        });
        if kind == Kind::Pod {
            cells.push(or_dash(&row.status));
        }
        if split {
            cells.extend([&row.apex, &row.leaf, &row.weight].map(or_dash));
        }
        cells.extend([
            row.meshed
                .map_or_else(|| "-".to_owned(), |m| format!("{}/{}", m.meshed, m.running)),
            percent(row.success),
            requests_per_second(row.rps),
            milliseconds(row.latency_ms_p50),
            milliseconds(row.latency_ms_p95),
            milliseconds(row.latency_ms_p99),
            row.tcp_open_connections
                .map_or_else(|| "-".to_owned(), |n| n.to_string()),
        ]);
        if self.wide {
            cells.extend([
                bytes_per_second(row.tcp_read_bytes_rate),
                bytes_per_second(row.tcp_write_bytes_rate),
                percent(row.secured),
            ]);
        }
        cells
    }
}

#[cfg(test)]
mod tests {
    use viz_api::Meshed;

    use super::*;

    fn row() -> StatRow {
        StatRow {
            namespace: "emojivoto1".into(),
            name: "emoji".into(),
            meshed: Some(Meshed { meshed: 1, running: 2 }),
            success: Some(1.0),
            rps: Some(2.04),
            latency_ms_p50: Some(123),
            latency_ms_p95: Some(123),
            latency_ms_p99: Some(123),
            tcp_open_connections: Some(123),
            ..StatRow::default()
        }
    }

    #[test]
    fn renders_the_columns_of_linkerd() {
        let view = View {
            with_namespace: true,
            wide: false,
            prefixed: false,
        };
        let expected = "\
NAMESPACE    NAME    MESHED   SUCCESS      RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99   TCP_CONN
emojivoto1   emoji      1/2   100.00%   2.0rps         123ms         123ms         123ms        123
";
        assert_eq!(view.render(Kind::Deployment, &[row()]), expected);
    }

    #[test]
    fn adds_columns_for_splits_pods_and_several_kinds() {
        let view = View {
            with_namespace: false,
            wide: true,
            prefixed: true,
        };
        let split = StatRow {
            apex: Some("a".into()),
            leaf: Some("b".into()),
            weight: Some("900m".into()),
            ..row()
        };
        let text = view.render(Kind::Service, &[split]);
        assert!(text.starts_with("NAME        APEX   LEAF   WEIGHT   MESHED"), "{text}");
        assert!(text.lines().all(|line| line == line.trim_end()) && text.contains("svc/emoji   a      b      900m"));
        let pods = view.render(
            Kind::Pod,
            &[StatRow {
                status: Some("Running".into()),
                ..row()
            }],
        );
        assert!(pods.contains("NAME       STATUS") && pods.contains("SECURED"), "{pods}");
    }
}
