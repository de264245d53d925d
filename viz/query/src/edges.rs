//! Who talks to whom, with the identity that each end proved.
//!
//! The client's proxy tells the server's identity; that the client proved its own is told by the server's proxy, so an
//! edge is looked up at both ends.

use std::collections::{BTreeMap, BTreeSet};

use proxy_metrics::names::label;
use viz_api::{EdgeRow, EdgesRequest, Kind};

use crate::{
    objects::{Objects, Pod, PodKey},
    series::{Family, Labels},
    stat::{Refusal, dst_label},
    window::{View, Window},
};

/// The rows that `request` asks for.
pub fn edges(request: &EdgesRequest, objects: &Objects, window: &Window) -> Result<Vec<EdgeRow>, Refusal> {
    if !request.kind.is_workload() {
        return Err(Refusal::Edges(request.kind));
    }
    let views: Vec<View<'_>> = window.views(request.window_ms).collect();
    let witnesses = Witnesses::collect(&views);
    let mut rows: BTreeMap<[String; 7], EdgeRow> = BTreeMap::new();
    for view in &views {
        let Some(src) = view.pod().name_as(request.kind) else {
            continue;
        };
        for (labels, open) in active(view) {
            let Some(mut row) = edge(view.pod(), src, labels, request.kind) else {
                continue;
            };
            let shown = |ns: &str| ns == row.src_namespace || ns == row.dst_namespace;
            if !request.namespace.as_deref().is_none_or(shown) {
                continue;
            }
            row.client_id_witnessed = witnesses.saw(&row.client_id, labels, objects);
            let entry = rows.entry(key(&row)).or_insert(row);
            entry.open_connections += open as u64;
        }
    }
    Ok(rows.into_values().collect())
}

/// The outbound series that have an open connection, or had traffic in the window.
fn active<'a>(view: &View<'a>) -> Vec<(&'a Labels, f64)> {
    let outbound = |labels: &Labels| labels.get(label::DIRECTION) == "outbound";
    let to_server = |labels: &Labels| outbound(labels) && labels.get(label::PEER) == "dst";
    let open = view
        .values(Family::OpenConnections)
        .filter(|(l, n)| to_server(l) && *n > 0.0);
    let opened = view
        .increases(Family::OpenTotal)
        .filter(|(l, n)| to_server(l) && *n > 0.0);
    let requests = view
        .increases(Family::ResponseTotal)
        .filter(|(l, n)| outbound(l) && *n > 0.0);
    open.chain(opened.chain(requests).map(|(l, _)| (l, 0.0))).collect()
}

fn edge(pod: &Pod, src: &str, labels: &Labels, kind: Kind) -> Option<EdgeRow> {
    let dst = labels.get(&dst_label(kind));
    if dst.is_empty() {
        return None;
    }
    let secured = labels.get(label::TLS) == "true";
    let reason = match labels.get(label::NO_TLS_REASON) {
        _ if secured => "",
        "" => labels.get(label::TLS),
        reason => reason,
    };
    let client_id = pod.identity.clone().filter(|_| secured).unwrap_or_default();
    Some(EdgeRow {
        src: src.to_owned(),
        src_namespace: pod.key.namespace.to_string(),
        dst: dst.to_owned(),
        dst_namespace: labels.get("dst_namespace").to_owned(),
        client_id,
        server_id: labels.get(label::SERVER_ID).to_owned(),
        no_tls_reason: reason.to_owned(),
        client_id_witnessed: false,
        open_connections: 0,
    })
}

/// Rows are sorted by source, then destination; what differs only in connections or witness is one row.
fn key(row: &EdgeRow) -> [String; 7] {
    let fields = [
        &row.src_namespace,
        &row.src,
        &row.dst_namespace,
        &row.dst,
        &row.client_id,
        &row.server_id,
        &row.no_tls_reason,
    ];
    fields.map(Clone::clone)
}

/// Which client identities each pod's own proxy has seen.
struct Witnesses<'a>(BTreeMap<&'a PodKey, BTreeSet<&'a str>>);

impl<'a> Witnesses<'a> {
    fn collect(views: &[View<'a>]) -> Self {
        let mut seen: BTreeMap<&PodKey, BTreeSet<&str>> = BTreeMap::new();
        for view in views {
            let inbound = [Family::OpenTotal, Family::ResponseTotal]
                .into_iter()
                .flat_map(|f| view.increases(f));
            let clients = inbound
                .map(|(labels, _)| labels)
                .filter(|l| l.get(label::DIRECTION) == "inbound");
            seen.entry(&view.pod().key)
                .or_default()
                .extend(clients.map(|l| l.get(label::CLIENT_ID)));
        }
        Self(seen)
    }

    /// Whether a pod behind the series' destination saw `client_id`.
    fn saw(&self, client_id: &str, labels: &Labels, objects: &Objects) -> bool {
        let (namespace, pod) = (labels.get("dst_namespace"), labels.get("dst_pod"));
        let key = objects
            .pods
            .iter()
            .map(|p| &p.key)
            .find(|k| *k.namespace == *namespace && *k.name == *pod);
        !client_id.is_empty()
            && key
                .and_then(|k| self.0.get(k))
                .is_some_and(|seen| seen.contains(client_id))
    }
}

#[cfg(test)]
mod tests;
