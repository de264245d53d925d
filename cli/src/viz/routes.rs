//! `mesh viz routes`: metrics of Services by route.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, bail};
use serde_json::{Value, json};
use viz_api::{Answer, Resource, RouteRow, RoutesRequest};

use super::{Api, ApiFlags, NamespaceFlags, ViewFormat, note_source, resources, window};
use crate::output::{self, Align, Table, milliseconds, percent, requests_per_second};

/// Arguments of `mesh viz routes`.
#[derive(Debug, clap::Args)]
pub(crate) struct RoutesArgs {
    /// KIND, KIND/NAME or KIND NAME; kinds: svc, deploy, po, ns, sts, ds, rs, rc, job, cj.
    #[arg(required = true, value_name = "RESOURCE")]
    resources: Vec<String>,
    #[command(flatten)]
    namespace: NamespaceFlags,
    /// Time window (for example 30s).
    #[arg(short, long, default_value = "1m", value_parser = window)]
    time_window: Duration,
    /// Restrict to traffic sent to this resource; attempts, including retries, are then counted too.
    #[arg(long, value_name = "RESOURCE")]
    to: Option<Resource>,
    /// Namespace of --to.
    #[arg(long, value_name = "NAMESPACE", requires = "to")]
    to_namespace: Option<String>,
    /// Label selector (for example app=web,tier!=test).
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// Output format; wide requires --to.
    #[arg(short, long, value_enum, default_value_t)]
    output: ViewFormat,
    #[command(flatten)]
    source: ApiFlags,
}

/// `mesh viz routes`
pub(super) async fn run(args: RoutesArgs) -> Result<()> {
    if args.output == ViewFormat::Wide && args.to.is_none() {
        bail!("-o wide requires --to: attempts are only known to the sender");
    }
    let api = args.source.api().await?;
    let mut rows = Vec::new();
    let mut source = None;
    for resource in resources::parse(&args.resources)? {
        let answer: Answer<RouteRow> = api.get(viz_api::ROUTES, &args.request(&api, resource)).await?;
        rows.extend(answer.rows);
        source = Some(answer.source);
    }
    let wide = args.output == ViewFormat::Wide;
    if args.output == ViewFormat::Json {
        return output::print(&format!("{}\n", serde_json::to_string_pretty(&as_json(&rows))?));
    }
    if rows.is_empty() {
        eprintln!("No routes found: the selected resources have no ServiceProfile, HTTPRoute or traffic.");
    }
    output::print(&render(&rows, wide))?;
    if let Some(source) = source {
        note_source(&api, &source, wide);
    }
    Ok(())
}

impl RoutesArgs {
    fn request(&self, api: &Api, resource: Resource) -> RoutesRequest {
        RoutesRequest {
            namespace: self.namespace.get(api),
            labels: self.selector.clone(),
            window_ms: self.time_window.as_millis() as u64,
            to: self.to.clone(),
            to_namespace: self.to_namespace.clone(),
            ..RoutesRequest::of(resource)
        }
    }
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

fn render(rows: &[RouteRow], wide: bool) -> String {
    let mut of: BTreeMap<(&str, &str), Vec<&RouteRow>> = BTreeMap::new();
    for row in rows {
        of.entry((&row.kind, &row.name)).or_default().push(row);
    }
    let several = of.len() > 1;
    let tables = of.into_iter().map(|((kind, name), rows)| {
        let heading = if several {
            format!("==> {kind}/{name} <==\n")
        } else {
            String::new()
        };
        heading + &table(&rows, wide)
    });
    tables.collect::<Vec<_>>().join("\n")
}

fn table(rows: &[&RouteRow], wide: bool) -> String {
    let figures: &[&str] = if wide {
        &["EFFECTIVE_SUCCESS", "EFFECTIVE_RPS", "ACTUAL_SUCCESS", "ACTUAL_RPS"]
    } else {
        &["SUCCESS", "RPS"]
    };
    let latencies = ["LATENCY_P50", "LATENCY_P95", "LATENCY_P99"];
    let mut columns = vec![("ROUTE", Align::Left), ("SERVICE", Align::Left)];
    columns.extend(figures.iter().chain(&latencies).map(|name| (*name, Align::Right)));
    let mut table = Table::new(&columns);
    for row in rows {
        let mut cells = vec![row.route.clone(), row.authority.clone()];
        if wide {
            cells.extend([
                percent(row.effective_success),
                requests_per_second(row.effective_rps),
                percent(row.actual_success),
                requests_per_second(row.actual_rps),
            ]);
        } else {
            cells.extend([percent(row.success), requests_per_second(row.rps)]);
        }
        cells.extend([row.latency_ms_p50, row.latency_ms_p95, row.latency_ms_p99].map(milliseconds));
        table.row(cells);
    }
    table.render()
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
        assert_eq!(render(std::slice::from_ref(&row), false), expected);
        let other = RouteRow {
            name: "api".into(),
            ..row.clone()
        };
        let rows = [row, other];
        assert!(render(&rows, true).starts_with("==> deployment/api <==\nROUTE   SERVICE   EFFECTIVE_SUCCESS"));
        assert_eq!(as_json(&rows)["deployment/web"][0]["route"], "GET /");
    }
}
