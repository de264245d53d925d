//! `mesh viz edges`: connections between workloads, and their identities.

use std::time::Duration;

use anyhow::Result;
use viz_api::{Answer, EdgeRow, EdgesRequest, Kind};

use super::{ApiFlags, NamespaceFlags, ViewFormat, note_source, window};
use crate::output::{self, Align, Table};

/// Arguments of `mesh viz edges`.
#[derive(Debug, clap::Args)]
pub(crate) struct EdgesArgs {
    /// Kind of the workloads at both ends: deploy, po, sts, ds, rs, rc, job, cj.
    #[arg(value_name = "KIND")]
    kind: Kind,
    #[command(flatten)]
    namespace: NamespaceFlags,
    /// Include edges used within this time, even if no connection is open.
    #[arg(short, long, default_value = "1m", value_parser = window)]
    time_window: Duration,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: ViewFormat,
    #[command(flatten)]
    source: ApiFlags,
}

/// `mesh viz edges`
pub(super) async fn run(args: EdgesArgs) -> Result<()> {
    let api = args.source.api().await?;
    let window_ms = args.time_window.as_millis() as u64;
    let request = EdgesRequest {
        kind: args.kind,
        namespace: args.namespace.get(&api),
        window_ms,
    };
    let answer: Answer<EdgeRow> = api.get(viz_api::EDGES, &request).await?;
    if args.output == ViewFormat::Json {
        return output::print(&format!("{}\n", serde_json::to_string_pretty(&answer.rows)?));
    }
    if answer.rows.is_empty() {
        eprintln!("No edges found.");
        return Ok(());
    }
    let wide = args.output == ViewFormat::Wide;
    output::print(&render(&answer.rows, wide))?;
    note_source(&api, &answer.source, wide);
    Ok(())
}

fn render(rows: &[EdgeRow], wide: bool) -> String {
    let ids = if wide { &["CLIENT_ID", "SERVER_ID"][..] } else { &[] };
    let columns = ["SRC", "DST", "SRC_NS", "DST_NS"].iter().chain(ids).chain(&["SECURED"]);
    let mut table = Table::new(&columns.map(|name| (*name, Align::Left)).collect::<Vec<_>>());
    for row in rows {
        let mut cells: Vec<String> = [&row.src, &row.dst, &row.src_namespace, &row.dst_namespace]
            .map(Clone::clone)
            .into();
        if wide {
            cells.extend([short_id(&row.client_id), short_id(&row.server_id)]);
        }
        cells.push(secured(row).to_owned());
        table.row(cells);
    }
    table.render()
}

/// Shortens `web.vote.serviceaccount.identity.linkerd.cluster.local` to `web.vote`; other identities are kept.
pub(super) fn short_id(id: &str) -> String {
    match id.split_once(".serviceaccount.identity.") {
        _ if id.is_empty() => "-".to_owned(),
        Some((head, _)) => head.to_owned(),
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
        assert_eq!(render(&[row, plain], true), expected);
    }
}
