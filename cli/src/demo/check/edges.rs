//! Asserts that every edge of the application is mutual TLS.

use anyhow::{Context, Result, ensure};
use proxy_model::defaults::MESH_NAMES;
use viz_api::{Answer, EdgeRow, EdgesRequest, Kind};

use super::{Check, DEPLOYMENTS};
use crate::demo::NAMESPACE;

/// Expected edges: client and server.
const EDGES: [(&str, &str); 4] = [
    ("traffic", "web"),
    ("web", "emoji"),
    ("web", "voting-v1"),
    ("web", "voting-v2"),
];

pub(super) fn are_mutual(check: &Check<'_>) -> Result<String> {
    let request = EdgesRequest {
        kind: Kind::Deployment,
        namespace: Some(NAMESPACE.to_owned()),
        include_scrapes: false,
        window_ms: 600_000,
    };
    let answer: Answer<EdgeRow> = check.get(viz_api::EDGES, &request)?;
    let in_app = |namespace: &str, name: &str| namespace == NAMESPACE && DEPLOYMENTS.contains(&name);
    let rows: Vec<&EdgeRow> = answer
        .rows
        .iter()
        .filter(|row| in_app(&row.src_namespace, &row.src) && in_app(&row.dst_namespace, &row.dst))
        .collect();
    for row in &rows {
        let edge = format!("{}→{}", row.src, row.dst);
        ensure!(EDGES.contains(&(&row.src, &row.dst)), "unexpected edge {edge}");
        ensure!(
            row.no_tls_reason.is_empty(),
            "{edge} is not secured: {}",
            row.no_tls_reason
        );
        ensure!(
            row.client_id == identity(&row.src),
            "{edge}: unexpected client {:?}",
            row.client_id
        );
        ensure!(
            row.server_id == identity(&row.dst),
            "{edge}: unexpected server {:?}",
            row.server_id
        );
        ensure!(
            row.client_id_witnessed,
            "{edge}: the proxy of {} has not seen the client as {}",
            row.dst,
            row.client_id
        );
    }
    for (src, dst) in EDGES {
        rows.iter()
            .find(|row| row.src == src && row.dst == dst)
            .with_context(|| format!("{src}→{dst} is missing"))?;
    }
    let shown = EDGES.map(|(src, dst)| format!("{src}.{NAMESPACE}→{dst}.{NAMESPACE}"));
    Ok(shown.join(", "))
}

pub(super) fn identity(account: &str) -> String {
    MESH_NAMES.service_account(account, NAMESPACE)
}
