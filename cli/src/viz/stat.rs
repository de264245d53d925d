//! `mesh viz stat`: success rates, request rates and latencies.

use anyhow::Result;
use viz_api::{Kind, Resource, StatRequest, StatRow};

use super::{
    resources,
    view::{self, Column, View, ViewFlags, left, right},
};
use crate::output::{bytes_per_second, milliseconds, percent, requests_per_second};

/// Arguments of `mesh viz stat`.
#[derive(Debug, clap::Args)]
pub(crate) struct StatArgs {
    /// KIND, KIND/NAME or KIND NAME; kinds: deploy, po, ns, svc, au, sts, ds, rs, rc, job, cj, or all.
    #[arg(required = true, value_name = "RESOURCE")]
    resources: Vec<String>,
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
    #[command(flatten)]
    view: ViewFlags,
}

/// `mesh viz stat`
pub(super) async fn run(args: StatArgs) -> Result<()> {
    let resources = resources::parse(&args.resources)?;
    let shape = Shape {
        with_namespace: args.view.namespace.all_namespaces,
        wide: args.view.wide(),
        prefixed: false,
    };
    let view = View {
        path: viz_api::STAT,
        empty: "No traffic found.\nhint: check the name and the namespace (-n), or include resources without meshed pods (--unmeshed)",
        table: &|rows: &[StatRow]| render(rows, shape),
        json: view::list,
    };
    let requests = |scope: view::ViewScope| {
        let request = |resource| StatRequest {
            namespace: scope.namespace.clone(),
            labels: args.selector.clone(),
            window_ms: scope.window_ms,
            to: args.to.clone(),
            to_namespace: args.to_namespace.clone(),
            from: args.from.clone(),
            from_namespace: args.from_namespace.clone(),
            unmeshed: args.unmeshed,
            ..StatRequest::new(resource)
        };
        resources.into_iter().map(request).collect::<Vec<_>>()
    };
    view::run(&args.view, requests, view).await
}

/// Renders one table per kind; several names of one kind share a table.
fn render(rows: &[StatRow], shape: Shape) -> String {
    let mut tables: Vec<(Kind, Vec<&StatRow>)> = Vec::new();
    for row in rows {
        let kind = row.kind.parse().unwrap_or(Kind::Deployment);
        match tables.last_mut().filter(|(last, _)| *last == kind) {
            Some((_, rows)) => rows.push(row),
            None => tables.push((kind, vec![row])),
        }
    }
    let shape = Shape {
        prefixed: tables.len() > 1,
        ..shape
    };
    let texts: Vec<String> = tables.iter().map(|(kind, rows)| shape.render(*kind, rows)).collect();
    texts.join("\n")
}

/// Choice of columns.
#[derive(Copy, Clone, Debug, Default)]
struct Shape {
    with_namespace: bool,
    wide: bool,
    /// Prefix names with the short kind.
    prefixed: bool,
}

impl Shape {
    fn render(self, kind: Kind, rows: &[&StatRow]) -> String {
        let mut columns = self.names(kind);
        if rows.iter().any(|row| row.apex.is_some()) {
            columns.push(left("APEX", |row: &StatRow| or_dash(row.apex.as_ref())));
            columns.push(left("LEAF", |row: &StatRow| or_dash(row.leaf.as_ref())));
            columns.push(left("WEIGHT", |row: &StatRow| or_dash(row.weight.as_ref())));
        }
        columns.extend(figures());
        if self.wide {
            columns.push(right("READ_BYTES/SEC", |row: &StatRow| {
                bytes_per_second(row.tcp_read_bytes_rate)
            }));
            columns.push(right("WRITE_BYTES/SEC", |row: &StatRow| {
                bytes_per_second(row.tcp_write_bytes_rate)
            }));
            columns.push(right("SECURED", |row: &StatRow| percent(row.secured)));
        }
        view::render(&columns, rows.iter().copied())
    }

    fn names(self, kind: Kind) -> Vec<Column<StatRow>> {
        let mut columns = Vec::new();
        if self.with_namespace && kind != Kind::Authority {
            columns.push(left("NAMESPACE", |row: &StatRow| row.namespace.clone()));
        }
        columns.push(if self.prefixed {
            left("NAME", |row: &StatRow| match row.kind.parse::<Kind>() {
                Ok(kind) => format!("{}/{}", kind.short(), row.name),
                Err(_) => row.name.clone(),
            })
        } else {
            left("NAME", |row: &StatRow| row.name.clone())
        });
        if kind == Kind::Pod {
            columns.push(left("STATUS", |row: &StatRow| or_dash(row.status.as_ref())));
        }
        columns
    }
}

fn figures() -> [Column<StatRow>; 7] {
    [
        right("MESHED", |row: &StatRow| {
            or_dash(row.meshed.map(|m| format!("{}/{}", m.meshed, m.running)).as_ref())
        }),
        right("SUCCESS", |row: &StatRow| percent(row.success)),
        right("RPS", |row: &StatRow| requests_per_second(row.rps)),
        right("LATENCY_P50", |row: &StatRow| milliseconds(row.latency_ms_p50)),
        right("LATENCY_P95", |row: &StatRow| milliseconds(row.latency_ms_p95)),
        right("LATENCY_P99", |row: &StatRow| milliseconds(row.latency_ms_p99)),
        right("TCP_CONN", |row: &StatRow| {
            or_dash(row.tcp_open_connections.map(|n| n.to_string()).as_ref())
        }),
    ]
}

fn or_dash(text: Option<&String>) -> String {
    text.cloned().unwrap_or_else(|| "-".to_owned())
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
        let shape = Shape {
            with_namespace: true,
            ..Shape::default()
        };
        let expected = "\
NAMESPACE    NAME    MESHED   SUCCESS      RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99   TCP_CONN
emojivoto1   emoji      1/2   100.00%   2.0rps         123ms         123ms         123ms        123
";
        assert_eq!(shape.render(Kind::Deployment, &[&row()]), expected);
    }

    #[test]
    fn adds_columns_for_splits_pods_and_several_kinds() {
        let shape = Shape {
            wide: true,
            prefixed: true,
            ..Shape::default()
        };
        let split = StatRow {
            kind: "service".into(),
            apex: Some("a".into()),
            leaf: Some("b".into()),
            weight: Some("900m".into()),
            ..row()
        };
        let text = shape.render(Kind::Service, &[&split]);
        assert!(text.starts_with("NAME        APEX   LEAF   WEIGHT   MESHED"), "{text}");
        assert!(text.lines().all(|line| line == line.trim_end()) && text.contains("svc/emoji   a      b      900m"));
        let pod = StatRow {
            kind: "pod".into(),
            status: Some("Running".into()),
            ..row()
        };
        let pods = shape.render(Kind::Pod, &[&pod]);
        assert!(pods.contains("NAME       STATUS") && pods.contains("SECURED"), "{pods}");
    }

    #[test]
    fn groups_rows_by_kind() {
        let of_kind = |kind: &str| StatRow {
            kind: kind.into(),
            ..row()
        };
        let text = render(
            &[of_kind("deployment"), of_kind("pod"), of_kind("pod")],
            Shape::default(),
        );
        assert_eq!(text.matches("NAME ").count(), 2, "{text}");
        assert!(text.contains("\n\nNAME") && text.contains("po/emoji"), "{text}");
    }
}
