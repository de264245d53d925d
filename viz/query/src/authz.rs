//! Allowed and denied requests by route, Server and authorization, as the proxies of servers count them.

use std::collections::BTreeMap;

use proxy_metrics::names::{classification, label};
use viz_api::{AuthzRequest, AuthzRow, DeniedClient, Kind, UNAUTHORIZED};

use crate::{
    error::Error,
    figures::Figures,
    objects::LabelSelector,
    series::{Family, Labels},
    stat::is_mesh_traffic,
    window::{View, Window},
};

/// Server, route, authorization and namespace, in the order of rows.
type Key = (String, String, String, String);

#[derive(Default)]
struct Cell {
    figures: Figures,
    denied: f64,
    /// Denied requests a second by client identity.
    clients: BTreeMap<String, f64>,
    covered_ms: u64,
}

impl Cell {
    fn deny(&mut self, client_id: &str, rps: f64) {
        self.denied += rps;
        if rps > 0.0 {
            *self.clients.entry(client_id.to_owned()).or_default() += rps;
        }
    }

    /// Denied clients, most requests first.
    fn denied_clients(&self) -> Vec<DeniedClient> {
        let client = |(client_id, rps): (&String, &f64)| DeniedClient {
            client_id: client_id.clone(),
            rps: *rps,
        };
        let mut clients: Vec<_> = self.clients.iter().map(client).collect();
        clients.sort_by(|a, b| b.rps.total_cmp(&a.rps));
        clients
    }
}

/// Returns the rows of a request.
pub fn authz(request: &AuthzRequest, window: &Window) -> Result<Vec<AuthzRow>, Error> {
    let selector = request.labels.as_deref().map(LabelSelector::parse);
    let selector = selector.transpose().map_err(Error::Selector)?;
    if matches!(request.resource.kind, Kind::Service | Kind::Authority) {
        return Err(Error::Authz(request.resource.kind));
    }
    let mut cells: BTreeMap<Key, Cell> = BTreeMap::new();
    for view in window.views(request.window_ms) {
        let pod = view.pod();
        let wanted = pod.belongs_to(&request.resource, request.namespace.as_deref());
        if wanted && selector.as_ref().is_none_or(|s| s.matches(&pod.labels)) {
            add(&mut cells, &view);
        }
    }
    let shown = |(_, cell): &(Key, Cell)| !cell.figures.is_idle() || cell.denied > 0.0;
    Ok(cells.into_iter().filter(shown).map(row).collect())
}

fn add(cells: &mut BTreeMap<Key, Cell>, view: &View<'_>) {
    let covered = view.covered_ms();
    let mut cell = |labels: &Labels, denied: bool, take: &dyn Fn(&mut Cell)| {
        let cell = cells.entry(key(view, labels, denied)).or_default();
        cell.covered_ms = cell.covered_ms.max(covered);
        take(cell);
    };
    let inbound = |labels: &Labels| labels.get(label::DIRECTION) == "inbound" && !is_mesh_traffic(labels);
    for (labels, gained) in view.increases(Family::ResponseTotal).filter(|(l, _)| inbound(l)) {
        let failed = labels.get(label::CLASSIFICATION) == classification::FAILURE;
        // Denied requests are counted below.
        if !labels.get(label::AUTHZ_NAME).is_empty() {
            cell(labels, false, &|cell| cell.figures.count(gained, failed, covered));
        }
    }
    for (labels, gained) in view.increases(Family::LatencyBucket).filter(|(l, _)| inbound(l)) {
        if let Ok(bound) = labels.get(label::LE).parse()
            && !labels.get(label::AUTHZ_NAME).is_empty()
        {
            cell(labels, false, &|cell| cell.figures.latency(bound, gained));
        }
    }
    let seconds = covered as f64 / 1000.0;
    for (labels, gained) in view.increases(Family::DenyTotal) {
        if seconds > 0.0 {
            cell(labels, true, &|cell| {
                cell.deny(labels.get(label::CLIENT_ID), gained / seconds);
            });
        }
    }
}

fn key(view: &View<'_>, labels: &Labels, denied: bool) -> Key {
    let pair = |kind: &str, name: &str| match (labels.get(kind), labels.get(name)) {
        ("default", name) => format!("default:{name}"),
        (_, name) => name.to_owned(),
    };
    let server = format!(
        "{}:{}",
        pair(label::SRV_KIND, label::SRV_NAME),
        labels.get(label::TARGET_PORT)
    );
    let authorization = if denied {
        UNAUTHORIZED.to_owned()
    } else {
        format!("{}/{}", labels.get(label::AUTHZ_KIND), labels.get(label::AUTHZ_NAME))
    };
    let route = labels.get(label::ROUTE_NAME).to_owned();
    (server, route, authorization, view.pod().key.namespace.to_string())
}

fn row(((server, route, authorization, namespace), cell): (Key, Cell)) -> AuthzRow {
    let [p50, p95, p99] = cell.figures.latencies();
    AuthzRow {
        namespace,
        route,
        server,
        authorization,
        unauthorized: (cell.denied > 0.0).then_some(cell.denied),
        clients: cell.denied_clients(),
        success: cell.figures.success(),
        rps: cell.figures.rps(),
        latency_ms_p50: p50,
        latency_ms_p95: p95,
        latency_ms_p99: p99,
        covered_ms: cell.covered_ms,
    }
}

#[cfg(test)]
mod tests;
