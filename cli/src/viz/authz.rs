//! `mesh viz authz`: metrics by authorization, and of unauthorized requests.

use anyhow::Result;
use viz_api::{AuthzRequest, AuthzRow, DeniedClient};

use super::{
    edges::short_id,
    resources,
    view::{self, Column, View, ViewFlags, ViewFormat, left, right},
};
use crate::output::{milliseconds, percent, requests_per_second};

/// Arguments of `mesh viz authz`.
#[derive(Debug, clap::Args)]
pub(crate) struct VizAuthzArgs {
    /// KIND, KIND/NAME or KIND NAME; kinds: deploy, po, ns, sts, ds, rs, rc, job, cj.
    #[arg(required = true, value_name = "RESOURCE")]
    resources: Vec<String>,
    /// Label selector (for example app=web,tier!=test).
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    #[command(flatten)]
    view: ViewFlags,
}

/// `mesh viz authz`
pub(super) async fn run(args: VizAuthzArgs) -> Result<()> {
    let resources = resources::parse(&args.resources)?;
    let columns = columns(args.view.output);
    let view = View {
        path: viz_api::AUTHZ,
        empty: "No traffic found.\nhint: check the name and the namespace (-n), and that the pods are meshed",
        table: &|rows: &[AuthzRow]| view::render(&columns, rows),
        json: view::list,
    };
    let requests = |scope: view::ViewScope| {
        let request = |resource| AuthzRequest {
            namespace: scope.namespace.clone(),
            labels: args.selector.clone(),
            window_ms: scope.window_ms,
            ..AuthzRequest::new(resource)
        };
        resources.into_iter().map(request).collect::<Vec<_>>()
    };
    view::run(&args.view, requests, view).await
}

fn columns(format: ViewFormat) -> Vec<Column<AuthzRow>> {
    let mut columns = vec![
        left("ROUTE", |row: &AuthzRow| row.route.clone()),
        left("SERVER", |row: &AuthzRow| row.server.clone()),
        left("AUTHORIZATION", |row: &AuthzRow| row.authorization.clone()),
        right("UNAUTHORIZED", |row: &AuthzRow| requests_per_second(row.unauthorized)),
        right("SUCCESS", |row: &AuthzRow| percent(row.success)),
        right("RPS", |row: &AuthzRow| requests_per_second(row.rps)),
        right("LATENCY_P50", |row: &AuthzRow| milliseconds(row.latency_ms_p50)),
        right("LATENCY_P95", |row: &AuthzRow| milliseconds(row.latency_ms_p95)),
        right("LATENCY_P99", |row: &AuthzRow| milliseconds(row.latency_ms_p99)),
    ];
    if format == ViewFormat::Wide {
        columns.push(left("CLIENTS", denied_clients));
    }
    columns
}

/// Lists denied clients with their rates: "web.vote 2.0rps, unauthenticated 0.1rps".
fn denied_clients(row: &AuthzRow) -> String {
    let client = |client: &DeniedClient| {
        let name = match client.client_id.as_str() {
            "" => "unauthenticated".to_owned(),
            id => short_id(id),
        };
        format!("{name} {}", requests_per_second(Some(client.rps)))
    };
    let clients: Vec<_> = row.clients.iter().map(client).collect();
    if clients.is_empty() {
        "-".to_owned()
    } else {
        clients.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_the_columns_of_linkerd() {
        let row = AuthzRow {
            route: "default".into(),
            server: "web-http".into(),
            authorization: viz_api::UNAUTHORIZED.into(),
            unauthorized: Some(0.5),
            ..AuthzRow::default()
        };
        let expected = "\
ROUTE     SERVER     AUTHORIZATION    UNAUTHORIZED   SUCCESS   RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99
default   web-http   [UNAUTHORIZED]         0.5rps         -     -             -             -             -
";
        assert_eq!(view::render(&columns(ViewFormat::Table), &[row]), expected);
    }

    #[test]
    fn wide_table_names_denied_clients() {
        let client = |id: &str, rps| DeniedClient {
            client_id: id.to_owned(),
            rps,
        };
        let row = AuthzRow {
            clients: vec![
                client("web.vote.serviceaccount.identity.linkerd.cluster.local", 2.0),
                client("", 0.5),
            ],
            ..AuthzRow::default()
        };
        let text = view::render(&columns(ViewFormat::Wide), &[row]);
        assert!(text.contains("LATENCY_P99   CLIENTS"), "{text}");
        assert!(text.contains("web.vote 2.0rps, unauthenticated 0.5rps"), "{text}");
    }
}
