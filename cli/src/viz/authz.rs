//! `mesh viz authz`: metrics by authorization, and of unauthorized requests.

use std::time::Duration;

use anyhow::Result;
use viz_api::{Answer, AuthzRequest, AuthzRow, Resource};

use super::{Api, ApiFlags, NamespaceFlags, ViewFormat, note_source, resources, window};
use crate::output::{self, Align, Table, milliseconds, percent, requests_per_second};

/// Arguments of `mesh viz authz`.
#[derive(Debug, clap::Args)]
pub(crate) struct VizAuthzArgs {
    /// KIND, KIND/NAME or KIND NAME; kinds: deploy, po, ns, sts, ds, rs, rc, job, cj.
    #[arg(required = true, value_name = "RESOURCE")]
    resources: Vec<String>,
    #[command(flatten)]
    namespace: NamespaceFlags,
    /// Time window (for example 30s).
    #[arg(short, long, default_value = "1m", value_parser = window)]
    time_window: Duration,
    /// Label selector (for example app=web,tier!=test).
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: ViewFormat,
    #[command(flatten)]
    source: ApiFlags,
}

/// `mesh viz authz`
pub(super) async fn run(args: VizAuthzArgs) -> Result<()> {
    let api = args.source.api().await?;
    let mut rows = Vec::new();
    let mut source = None;
    for resource in resources::parse(&args.resources)? {
        let answer: Answer<AuthzRow> = api.get(viz_api::AUTHZ, &args.request(&api, resource)).await?;
        rows.extend(answer.rows);
        source = Some(answer.source);
    }
    if args.output == ViewFormat::Json {
        return output::print(&format!("{}\n", serde_json::to_string_pretty(&rows)?));
    }
    if rows.is_empty() {
        eprintln!("No traffic found.");
    } else {
        output::print(&render(&rows))?;
    }
    if let Some(source) = source {
        note_source(&api, &source, args.output == ViewFormat::Wide);
    }
    Ok(())
}

impl VizAuthzArgs {
    fn request(&self, api: &Api, resource: Resource) -> AuthzRequest {
        AuthzRequest {
            namespace: self.namespace.get(api),
            labels: self.selector.clone(),
            window_ms: self.time_window.as_millis() as u64,
            ..AuthzRequest::of(resource)
        }
    }
}

fn render(rows: &[AuthzRow]) -> String {
    let names = ["ROUTE", "SERVER", "AUTHORIZATION"].map(|name| (name, Align::Left));
    let figures = [
        "UNAUTHORIZED",
        "SUCCESS",
        "RPS",
        "LATENCY_P50",
        "LATENCY_P95",
        "LATENCY_P99",
    ];
    let columns: Vec<_> = names
        .into_iter()
        .chain(figures.map(|name| (name, Align::Right)))
        .collect();
    let mut table = Table::new(&columns);
    for row in rows {
        let mut cells = vec![row.route.clone(), row.server.clone(), row.authorization.clone()];
        cells.extend([
            requests_per_second(row.unauthorized),
            percent(row.success),
            requests_per_second(row.rps),
        ]);
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
        let row = AuthzRow {
            route: "default".into(),
            server: "web-http".into(),
            authorization: viz_api::routes::UNAUTHORIZED.into(),
            unauthorized: Some(0.5),
            ..AuthzRow::default()
        };
        let expected = "\
ROUTE     SERVER     AUTHORIZATION    UNAUTHORIZED   SUCCESS   RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99
default   web-http   [UNAUTHORIZED]         0.5rps         -     -             -             -             -
";
        assert_eq!(render(&[row]), expected);
    }
}
