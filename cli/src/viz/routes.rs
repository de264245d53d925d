//! `mesh viz routes`: metrics of Services by route.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use viz_api::{Resource, RouteRow, RoutesRequest};

use super::{
    resources,
    view::{self, Column, View, ViewFlags, ViewFormat, left, right},
};
use crate::output::{milliseconds, percent, requests_per_second};

/// Arguments of `mesh viz routes`.
#[derive(Debug, clap::Args)]
pub(crate) struct RoutesArgs {
    /// KIND, KIND/NAME or KIND NAME; kinds: svc, deploy, po, ns, sts, ds, rs, rc, job, cj.
    #[arg(required = true, value_name = "RESOURCE")]
    resources: Vec<String>,
    /// Restrict to traffic sent to this resource; attempts, including retries, are then shown by -o wide.
    #[arg(long, value_name = "RESOURCE")]
    to: Option<Resource>,
    /// Namespace of --to.
    #[arg(long, value_name = "NAMESPACE", requires = "to")]
    to_namespace: Option<String>,
    /// Label selector (for example app=web,tier!=test).
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    #[command(flatten)]
    view: ViewFlags,
}

/// `mesh viz routes`
pub(super) async fn run(args: RoutesArgs) -> Result<()> {
    if args.view.wide() && args.to.is_none() {
        bail!("-o wide requires --to: attempts are only known to the sender");
    }
    let resources = resources::parse(&args.resources)?;
    let format = args.view.output;
    let view = View {
        path: viz_api::ROUTES,
        empty: "No routes found: the selected resources have no ServiceProfile, HTTPRoute or traffic.",
        table: &|rows: &[RouteRow]| render(rows, format),
        json: as_json,
    };
    let requests = |scope: view::ViewScope| {
        let request = |resource| RoutesRequest {
            namespace: scope.namespace.clone(),
            labels: args.selector.clone(),
            window_ms: scope.window_ms,
            to: args.to.clone(),
            to_namespace: args.to_namespace.clone(),
            ..RoutesRequest::new(resource)
        };
        resources.into_iter().map(request).collect::<Vec<_>>()
    };
    view::run(&args.view, requests, view).await
}

/// Groups routes by `kind/name`, as Linkerd's JSON does.
fn as_json(rows: &[RouteRow]) -> Value {
    let mut lists: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for row in rows {
        let list = lists.entry(format!("{}/{}", row.kind, row.name)).or_default();
        list.push(json!(row));
    }
    json!(lists)
}

/// Renders one table per resource.
fn render(rows: &[RouteRow], format: ViewFormat) -> String {
    let mut resources: BTreeMap<(&str, &str), Vec<&RouteRow>> = BTreeMap::new();
    for row in rows {
        resources.entry((&row.kind, &row.name)).or_default().push(row);
    }
    let columns = columns(format);
    let several = resources.len() > 1;
    let tables = resources.into_iter().map(|((kind, name), rows)| {
        let heading = if several {
            format!("==> {kind}/{name} <==\n")
        } else {
            String::new()
        };
        heading + &view::render(&columns, rows)
    });
    tables.collect::<Vec<_>>().join("\n")
}

fn columns(format: ViewFormat) -> Vec<Column<RouteRow>> {
    let mut columns = vec![
        left("ROUTE", |row: &RouteRow| row.route.clone()),
        left("SERVICE", |row: &RouteRow| row.authority.clone()),
    ];
    if format == ViewFormat::Wide {
        columns.extend([
            right("EFFECTIVE_SUCCESS", |row: &RouteRow| percent(row.effective_success)),
            right("EFFECTIVE_RPS", |row: &RouteRow| requests_per_second(row.effective_rps)),
            right("ACTUAL_SUCCESS", |row: &RouteRow| percent(row.actual_success)),
            right("ACTUAL_RPS", |row: &RouteRow| requests_per_second(row.actual_rps)),
        ]);
    } else {
        columns.push(right("SUCCESS", |row: &RouteRow| percent(row.success)));
        columns.push(right("RPS", |row: &RouteRow| requests_per_second(row.rps)));
    }
    columns.extend([
        right("LATENCY_P50", |row: &RouteRow| milliseconds(row.latency_ms_p50)),
        right("LATENCY_P95", |row: &RouteRow| milliseconds(row.latency_ms_p95)),
        right("LATENCY_P99", |row: &RouteRow| milliseconds(row.latency_ms_p99)),
    ]);
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_the_columns_of_linkerd() {
        let row = RouteRow {
            kind: "deployment".into(),
            name: "web".into(),
            route: "GET /".into(),
            authority: "web".into(),
            success: Some(1.0),
            rps: Some(2.0),
            latency_ms_p50: Some(3),
            ..RouteRow::default()
        };
        let expected = "\
ROUTE   SERVICE   SUCCESS      RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99
GET /   web       100.00%   2.0rps           3ms             -             -
";
        assert_eq!(render(std::slice::from_ref(&row), ViewFormat::Table), expected);
        let other = RouteRow {
            name: "api".into(),
            ..row.clone()
        };
        let rows = [row, other];
        assert!(
            render(&rows, ViewFormat::Wide).starts_with("==> deployment/api <==\nROUTE   SERVICE   EFFECTIVE_SUCCESS")
        );
        assert_eq!(as_json(&rows)["deployment/web"][0]["route"], "GET /");
    }
}
