//! `mesh viz edges`: connections between workloads, and their identities.

use anyhow::Result;
use proxy_model::ServiceAccount;
use viz_api::{EdgeRow, EdgesRequest, Kind};

use super::view::{self, Column, View, ViewFlags, ViewFormat, left};

/// Arguments of `mesh viz edges`.
#[derive(Debug, clap::Args)]
pub(crate) struct EdgesArgs {
    /// Kind of the workloads at both ends: deploy, po, sts, ds, rs, rc, job, cj.
    #[arg(value_name = "KIND")]
    kind: Kind,
    /// Include the scrapes and taps of mesh-viz.
    #[arg(long)]
    include_scrapes: bool,
    #[command(flatten)]
    view: ViewFlags,
}

/// `mesh viz edges`
pub(super) async fn run(args: EdgesArgs) -> Result<()> {
    let columns = columns(args.view.output);
    let view = View {
        path: viz_api::EDGES,
        empty: "No edges found.\nhint: check the kind and the namespace (-n)",
        table: &|rows: &[EdgeRow]| view::render(&columns, rows),
        json: view::list,
    };
    let (kind, include_scrapes) = (args.kind, args.include_scrapes);
    let requests = |scope: view::ViewScope| {
        vec![EdgesRequest {
            kind,
            namespace: scope.namespace,
            window_ms: scope.window_ms,
            include_scrapes,
        }]
    };
    view::run(&args.view, requests, view).await
}

fn columns(format: ViewFormat) -> Vec<Column<EdgeRow>> {
    let mut columns = vec![
        left("SRC", |row: &EdgeRow| row.src.clone()),
        left("DST", |row: &EdgeRow| row.dst.clone()),
        left("SRC_NS", |row: &EdgeRow| row.src_namespace.clone()),
        left("DST_NS", |row: &EdgeRow| row.dst_namespace.clone()),
    ];
    if format == ViewFormat::Wide {
        columns.push(left("CLIENT_ID", |row: &EdgeRow| short_id(&row.client_id)));
        columns.push(left("SERVER_ID", |row: &EdgeRow| short_id(&row.server_id)));
    }
    columns.push(left("SECURED", |row: &EdgeRow| secured(row).to_owned()));
    columns
}

/// Shortens `web.vote.serviceaccount.identity.linkerd.cluster.local` to `web.vote`; other identities are kept.
pub(super) fn short_id(id: &str) -> String {
    match ServiceAccount::parse(id) {
        _ if id.is_empty() => "-".to_owned(),
        Some(account) => format!("{}.{}", account.name, account.namespace),
        None => id.to_owned(),
    }
}

fn secured(row: &EdgeRow) -> &str {
    match row.no_tls_reason.as_str() {
        "" if row.client_id.is_empty() => "Server Only",
        "" => "√",
        "disabled" => "Disabled",
        "loopback" => "Loopback",
        "no_authority_in_http_request" => "No Authority In HTTP Request",
        "not_http" => "Not HTTP",
        "not_provided_by_remote" | "no_tls_from_remote" => "Not Provided By Remote",
        "not_provided_by_service_discovery" => "Not Provided By Service Discovery",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_the_columns_of_linkerd() {
        let id = |name: &str| format!("{name}.emojivoto.serviceaccount.identity.linkerd.cluster.local");
        let row = EdgeRow {
            src: "vote-bot".into(),
            dst: "web".into(),
            src_namespace: "emojivoto".into(),
            dst_namespace: "emojivoto".into(),
            client_id: id("default"),
            server_id: id("web"),
            ..EdgeRow::default()
        };
        let plain = EdgeRow {
            client_id: String::new(),
            no_tls_reason: "loopback".into(),
            ..row.clone()
        };
        let expected = "\
SRC        DST   SRC_NS      DST_NS      CLIENT_ID           SERVER_ID       SECURED
vote-bot   web   emojivoto   emojivoto   default.emojivoto   web.emojivoto   √
vote-bot   web   emojivoto   emojivoto   -                   web.emojivoto   Loopback
";
        assert_eq!(view::render(&columns(ViewFormat::Wide), &[row, plain]), expected);
    }
}
