//! Success rate, requests a second, latencies, connections and bytes of resources.
//!
//! Figures without a filter are those that the resource's own proxies count inbound; `--to` takes their outbound side,
//! `--from` the outbound side of the others; a Service or an authority has what all clients count outbound.

use std::collections::{BTreeMap, BTreeSet};

use proxy_metrics::names::{classification, label};
use proxy_model::ports;
use viz_api::{Kind, Meshed, Resource, StatRequest, StatRow};

use crate::{
    destinations::Destinations,
    error::Error,
    objects::{LabelSelector, Objects, Pod},
    quantile::Buckets,
    series::{Family, Labels, dst_label},
    window::{View, Window},
};

/// Namespace and name of a row.
type Name = (String, String);

/// Returns the rows of a request.
pub fn stat(request: &StatRequest, objects: &Objects, window: &Window) -> Result<Vec<StatRow>, Error> {
    let selector = request
        .labels
        .as_deref()
        .map(LabelSelector::parse)
        .transpose()
        .map_err(Error::Selector)?;
    let kind = request.resource.kind;
    check(request)?;
    let tallies = Tallies::collect(request, objects, window);
    let filtered = request.to.is_some() || request.from.is_some();
    if kind == Kind::Authority {
        return Ok(tallies.0.iter().map(|(name, tally)| tally.row(kind, name)).collect());
    }
    let mut rows = Vec::new();
    for (name, info) in listed(kind, objects, selector.as_ref()) {
        if !request.resource.matches(&name.1) || !in_namespace(kind, &name, request.namespace.as_deref()) {
            continue;
        }
        if kind == Kind::Service && tallies.split_rows(&name, objects, &mut rows) {
            continue;
        }
        let tally = tallies.0.get(&name);
        let meshed = info.meshed.is_none() || info.has_sidecar || request.unmeshed;
        if if filtered { tally.is_some() } else { meshed } {
            let row = tally.unwrap_or(&Tally::default()).row(kind, &name);
            rows.push(StatRow {
                meshed: info.meshed,
                status: info.status,
                ..row
            });
        }
    }
    Ok(rows)
}

fn check(request: &StatRequest) -> Result<(), Error> {
    let kind = request.resource.kind;
    match (&request.to, &request.from) {
        (Some(_), Some(_)) => Err(Error::ToAndFrom),
        (_, Some(from)) if matches!(from.kind, Kind::Service | Kind::Authority) => Err(Error::From(from.kind)),
        (Some(_), None) if matches!(kind, Kind::Service | Kind::Authority) => Err(Error::Filtered(kind)),
        _ => Ok(()),
    }
}

/// Returns whether a row is of the requested namespace; namespaces themselves always are.
fn in_namespace(kind: Kind, name: &Name, namespace: Option<&str>) -> bool {
    kind == Kind::Namespace || namespace.is_none_or(|n| n == name.0)
}

/// Part of a row that objects determine.
#[derive(Default)]
struct ObjectInfo {
    meshed: Option<Meshed>,
    /// A pod of it has a sidecar, even if that is not running yet.
    has_sidecar: bool,
    status: Option<String>,
}

/// Objects of a kind that have a row.
fn listed(kind: Kind, objects: &Objects, selector: Option<&LabelSelector>) -> BTreeMap<Name, ObjectInfo> {
    let selects = |labels: &BTreeMap<String, String>| selector.is_none_or(|s| s.matches(labels));
    let mut rows: BTreeMap<Name, ObjectInfo> = BTreeMap::new();
    if kind == Kind::Service {
        let services = objects.services.iter().filter(|s| selects(&s.labels));
        return services
            .map(|s| ((s.namespace.clone(), s.name.clone()), ObjectInfo::default()))
            .collect();
    }
    let workloads = objects.workloads.iter().filter(|w| w.kind == kind);
    let selected: BTreeMap<Name, bool> = workloads
        .map(|w| ((w.namespace.clone(), w.name.clone()), selects(&w.labels)))
        .collect();
    for (name, _) in selected.iter().filter(|(_, is_selected)| **is_selected) {
        rows.insert(
            name.clone(),
            ObjectInfo {
                meshed: Some(Meshed::default()),
                ..ObjectInfo::default()
            },
        );
    }
    for pod in &objects.pods {
        let Some(name) = row_name(pod, kind) else { continue };
        // The labels of a workload decide if it is listed, else those of its pods.
        if !selected.get(&name).copied().unwrap_or_else(|| selects(&pod.labels)) {
            continue;
        }
        let info = rows.entry(name).or_default();
        let meshed = info.meshed.get_or_insert_default();
        if pod.is_running() {
            meshed.running += 1;
            // Until its containers run, a pod has no sidecar to count with. (Linkerd counts it.)
            meshed.meshed += u32::from(pod.meshed && pod.phase == "Running");
            info.has_sidecar |= pod.meshed;
        }
        info.status = (kind == Kind::Pod).then(|| pod.phase.clone());
    }
    rows
}

fn row_name(pod: &Pod, kind: Kind) -> Option<Name> {
    let name = pod.name_as(kind)?.to_owned();
    let namespace = if kind == Kind::Namespace {
        name.clone()
    } else {
        pod.key.namespace.to_string()
    };
    Some((namespace, name))
}

/// Figures of each row.
struct Tallies(BTreeMap<Name, Tally>);

impl Tallies {
    fn collect(request: &StatRequest, objects: &Objects, window: &Window) -> Self {
        let mut tallies = Self(BTreeMap::new());
        let destinations = Destinations::new(objects, window);
        let kind = request.resource.kind;
        let namespace = request.namespace.as_deref();
        for view in window.views(request.window_ms) {
            let pod = view.pod();
            if let Some(from) = &request.from {
                if pod.belongs_to(from, request.from_namespace.as_deref().or(namespace)) {
                    tallies.outbound(&view, &destinations, |labels| destination_name(labels, kind));
                }
            } else if matches!(kind, Kind::Service | Kind::Authority) {
                tallies.outbound(&view, &destinations, |labels| destination_name(labels, kind));
            } else if let Some(name) = row_name(pod, kind) {
                if let Some(to) = &request.to {
                    let target = Target::new(to, request.to_namespace.as_deref().or(namespace), objects);
                    tallies.outbound(&view, &destinations, |labels| {
                        target.matches(labels).then(|| name.clone())
                    });
                } else {
                    tallies.inbound(&view, &name);
                }
            }
        }
        let wanted = |name: &Name| request.resource.matches(&name.1);
        tallies.0.retain(|name, _| kind == Kind::Service || wanted(name));
        tallies
    }

    fn inbound(&mut self, view: &View<'_>, name: &Name) {
        let row = |labels: &Labels| {
            (labels.get(label::DIRECTION) == "inbound" && !is_mesh_traffic(labels)).then(|| name.clone())
        };
        self.add(view, "src", row);
    }

    fn outbound(&mut self, view: &View<'_>, destinations: &Destinations<'_>, row: impl Fn(&Labels) -> Option<Name>) {
        self.add(view, "dst", |labels| {
            if labels.get(label::DIRECTION) == "outbound" && destinations.confirm(labels) {
                row(labels)
            } else {
                None
            }
        });
    }

    fn add(&mut self, view: &View<'_>, peer: &str, row: impl Fn(&Labels) -> Option<Name>) {
        let covered = view.covered_ms();
        let seconds = covered as f64 / 1000.0;
        for (labels, gained) in view.increases(Family::ResponseTotal) {
            let Some(name) = row(labels) else { continue };
            let tally = self.tally(name, covered);
            let failed = labels.get(label::CLASSIFICATION) == classification::FAILURE;
            *if failed {
                &mut tally.failures
            } else {
                &mut tally.successes
            } += gained;
            tally.secured += if is_mutual(labels) { gained } else { 0.0 };
            tally.rps += per_second(gained, seconds);
        }
        for (labels, gained) in view.increases(Family::LatencyBucket) {
            let (Some(name), Ok(bound)) = (row(labels), labels.get(label::LE).parse()) else {
                continue;
            };
            self.tally(name, covered).latency.add(bound, gained);
        }
        for (labels, open) in view
            .values(Family::OpenConnections)
            .filter(|(l, _)| l.get(label::PEER) == peer)
        {
            if let Some(name) = row(labels) {
                *self.tally(name, covered).connections.get_or_insert(0.0) += open;
            }
        }
        for (family, read) in [(Family::ReadBytes, true), (Family::WriteBytes, false)] {
            for (labels, gained) in view.increases(family).filter(|(l, _)| l.get(label::PEER) == peer) {
                let Some(name) = row(labels) else { continue };
                let tally = self.tally(name, covered);
                let rate = if read { &mut tally.read } else { &mut tally.written };
                *rate.get_or_insert(0.0) += per_second(gained, seconds);
            }
        }
    }

    fn tally(&mut self, name: Name, covered_ms: u64) -> &mut Tally {
        let tally = self.0.entry(name).or_default();
        tally.covered_ms = tally.covered_ms.max(covered_ms);
        tally
    }

    /// Adds a row for each leaf of a service that is split; returns whether it is split.
    fn split_rows(&self, name: &Name, objects: &Objects, rows: &mut Vec<StatRow>) -> bool {
        let Some(split) = objects
            .splits
            .iter()
            .find(|s| s.namespace == name.0 && s.apex == name.1)
        else {
            return false;
        };
        let nothing = Tally::default();
        rows.extend(split.leaves.iter().map(|(leaf, weight)| {
            let tally = self.0.get(&(name.0.clone(), leaf.clone())).unwrap_or(&nothing);
            let row = tally.row(Kind::Service, name);
            StatRow {
                apex: Some(name.1.clone()),
                leaf: Some(leaf.clone()),
                weight: Some(weight.clone()),
                ..row
            }
        }));
        true
    }
}

/// Returns whether requests are scrapes, taps or probes instead of traffic of the application. A kubelet has no
/// identity: if its probes counted, no workload would ever be fully secured. (Linkerd counts them.)
pub(crate) fn is_mesh_traffic(labels: &Labels) -> bool {
    let port = labels.get(label::TARGET_PORT).parse::<u16>();
    let is_probe = labels.get(label::ROUTE_KIND) == "default" && labels.get(label::ROUTE_NAME) == "probe";
    is_probe || port.is_ok_and(|p| p == ports::ADMIN || p == ports::TAP)
}

/// Returns whether both ends proved an identity.
fn is_mutual(labels: &Labels) -> bool {
    labels.get(label::TLS) == "true"
        && !(labels.get(label::CLIENT_ID).is_empty() && labels.get(label::SERVER_ID).is_empty())
}

fn per_second(gained: f64, seconds: f64) -> f64 {
    if seconds > 0.0 { gained / seconds } else { 0.0 }
}

/// Row that an outbound series counts for, by its destination.
fn destination_name(labels: &Labels, kind: Kind) -> Option<Name> {
    let namespace = labels.get("dst_namespace").to_owned();
    let name = match kind {
        Kind::Authority => {
            return Some((String::new(), labels.get(label::AUTHORITY).to_owned())).filter(|n| !n.1.is_empty());
        }
        Kind::Namespace => namespace.clone(),
        kind => labels.get(&dst_label(kind)).to_owned(),
    };
    Some((namespace, name)).filter(|n| !n.1.is_empty())
}

/// Target of `--to`. A service that is split includes each of its leaves.
struct Target<'a> {
    resource: &'a Resource,
    namespace: Option<&'a str>,
    leaves: BTreeSet<(&'a str, &'a str)>,
}

impl<'a> Target<'a> {
    fn new(resource: &'a Resource, namespace: Option<&'a str>, objects: &'a Objects) -> Self {
        let is_service = resource.kind == Kind::Service;
        let splits = objects
            .splits
            .iter()
            .filter(|s| is_service && resource.matches(&s.apex));
        let leaves = splits.flat_map(|s| s.leaves.iter().map(|(leaf, _)| (s.namespace.as_str(), leaf.as_str())));
        Self {
            resource,
            namespace,
            leaves: leaves.collect(),
        }
    }

    fn matches(&self, labels: &Labels) -> bool {
        let Some((namespace, name)) = destination_name(labels, self.resource.kind) else {
            return false;
        };
        let anywhere = matches!(self.resource.kind, Kind::Authority | Kind::Namespace);
        (anywhere || self.namespace.is_none_or(|n| n == namespace))
            && (self.resource.matches(&name) || self.leaves.contains(&(namespace.as_str(), name.as_str())))
    }
}

/// Figures of one row.
#[derive(Default)]
struct Tally {
    successes: f64,
    failures: f64,
    secured: f64,
    rps: f64,
    latency: Buckets,
    connections: Option<f64>,
    read: Option<f64>,
    written: Option<f64>,
    covered_ms: u64,
}

impl Tally {
    fn row(&self, kind: Kind, name: &Name) -> StatRow {
        let requests = self.successes + self.failures;
        let some = requests > 0.0;
        let covered = self.covered_ms > 0;
        let latency = |q| self.latency.quantile(q).map(|ms| ms.round() as u64);
        StatRow {
            namespace: name.0.clone(),
            kind: kind.singular().to_owned(),
            name: name.1.clone(),
            success: some.then(|| self.successes / requests),
            rps: some.then_some(self.rps),
            latency_ms_p50: latency(0.5),
            latency_ms_p95: latency(0.95),
            latency_ms_p99: latency(0.99),
            tcp_open_connections: self.connections.map(|n| n as u64),
            tcp_read_bytes_rate: self.read.filter(|_| covered),
            tcp_write_bytes_rate: self.written.filter(|_| covered),
            secured: some.then(|| self.secured / requests),
            successes: self.successes as u64,
            failures: self.failures as u64,
            covered_ms: self.covered_ms,
            ..StatRow::default()
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
