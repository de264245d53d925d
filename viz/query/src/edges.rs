//! Edges between workloads, with the identity of each end.
//!
//! The proxy of the client reports the identity of the server; only the proxy of the server can confirm that of the
//! client, so each edge is looked up at both ends.

use std::collections::{BTreeMap, BTreeSet};

use proxy_metrics::names::label;
use viz_api::{EdgeRow, EdgesRequest, Kind};

use crate::{
    destinations::Destinations,
    error::Error,
    objects::{Objects, Pod, PodKey},
    series::{Family, Labels, dst_label},
    stat::is_mesh_traffic,
    window::{View, Window},
};

/// Returns the rows of a request.
pub fn edges(request: &EdgesRequest, objects: &Objects, window: &Window) -> Result<Vec<EdgeRow>, Error> {
    if !request.kind.is_workload() {
        return Err(Error::Edges(request.kind));
    }
    let views: Vec<View<'_>> = window.views(request.window_ms).collect();
    let seen = SeenClients::collect(&views);
    let destinations = Destinations::new(objects, window);
    let mut rows: BTreeMap<[String; 7], EdgeRow> = BTreeMap::new();
    for view in &views {
        let Some(src) = view.pod().name_as(request.kind) else {
            continue;
        };
        for (labels, open) in active(view) {
            if is_mesh_traffic(labels) && !request.include_scrapes || !destinations.confirm(labels) {
                continue;
            }
            let Some(mut row) = edge(view.pod(), src, labels, request.kind) else {
                continue;
            };
            let shown = |ns: &str| ns == row.src_namespace || ns == row.dst_namespace;
            if !request.namespace.as_deref().is_none_or(shown) {
                continue;
            }
            row.client_id_witnessed = seen.contains(&row.client_id, labels, objects);
            let entry = rows.entry(key(&row)).or_insert(row);
            entry.open_connections += open as u64;
        }
    }
    Ok(rows.into_values().collect())
}

/// Outbound series with an open connection or with traffic in the window.
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

/// Identity and order of a row: series that differ in other fields only are one row.
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

/// Client identities that the proxy of each pod has seen.
struct SeenClients<'a>(BTreeMap<&'a PodKey, BTreeSet<&'a str>>);

impl<'a> SeenClients<'a> {
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

    /// Returns whether the pod that the series leads to saw `client_id`.
    fn contains(&self, client_id: &str, labels: &Labels, objects: &Objects) -> bool {
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
