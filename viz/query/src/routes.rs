//! Figures of each route of ServiceProfiles, HTTPRoutes and GRPCRoutes.
//!
//! Our proxies count routes at the client, where they are selected. So without `--to` a row has what all clients sent
//! to the Services of a resource, if these have no other pods, and else what its endpoints answered. The own figures of
//! a proxy that counts routes inbound as well, as Linkerd's does, come first. Figures that cannot be known are none.

use std::collections::{BTreeMap, BTreeSet};

use proxy_metrics::names::{classification, label};
use viz_api::{DEFAULT_ROUTE, Kind, Resource, RouteRow, RoutesRequest};

use crate::{
    destinations::Destinations,
    error::Error,
    figures::Figures,
    objects::{LabelSelector, Objects, Pod, Split},
    series::{Family, Labels, dst_label},
    window::{View, Window},
};

/// Labels of the Service that is the parent of a policy route.
const PARENT_NAME: &str = "parent_name";
const PARENT_NAMESPACE: &str = "parent_namespace";
const PROFILE: &str = "serviceprofile";

/// Namespace and name.
type Name = (String, String);

/// Returns the rows of a request.
pub fn routes(request: &RoutesRequest, objects: &Objects, window: &Window) -> Result<Vec<RouteRow>, Error> {
    let selector = request.labels.as_deref().map(LabelSelector::parse);
    let selector = selector.transpose().map_err(Error::Selector)?;
    if request.resource.kind == Kind::Authority {
        return Err(Error::Routes(request.resource.kind));
    }
    let selected = |pod: &Pod| selector.as_ref().is_none_or(|s| s.matches(&pod.labels));
    let mut rows = Rows::default();
    match &request.to {
        Some(to) => {
            if request.resource.kind == Kind::Service {
                return Err(Error::Filtered(Kind::Service));
            }
            let namespace = request.to_namespace.as_deref().or(request.namespace.as_deref());
            let targets = services(to, namespace, objects, &|_| true);
            let destinations = Destinations::new(objects, window);
            for view in window.views(request.window_ms) {
                if let Some(owner) = owner(view.pod(), request).filter(|_| selected(view.pod())) {
                    rows.outbound(&view, &targets, &|_| vec![owner.clone()]);
                    rows.endpoints(&view, &targets, &destinations, &|_, _| Some(owner.clone()));
                }
            }
        }
        None => rows.received(request, objects, window, &selected),
    }
    Ok(rows.into_rows(request, objects))
}

/// Resource that a pod belongs to, if it is requested.
fn owner(pod: &Pod, request: &RoutesRequest) -> Option<Name> {
    if !pod.belongs_to(&request.resource, request.namespace.as_deref()) {
        return None;
    }
    let name = pod.name_as(request.resource.kind)?.to_owned();
    Some((pod.key.namespace.to_string(), name))
}

/// Services that are `resource` or select its pods.
fn services(
    resource: &Resource,
    namespace: Option<&str>,
    objects: &Objects,
    selected: &dyn Fn(&Pod) -> bool,
) -> BTreeSet<Name> {
    let in_namespace = |ns: &str| namespace.is_none_or(|n| n == ns);
    let wanted = objects.services.iter().filter(|service| match resource.kind {
        Kind::Service => in_namespace(&service.namespace) && resource.matches(&service.name),
        Kind::Namespace => resource.matches(&service.namespace),
        _ => {
            let mut pods = objects.pods.iter().filter(|pod| selected(pod) && service.selects(pod));
            pods.any(|pod| pod.belongs_to(resource, namespace))
        }
    });
    wanted.map(|s| (s.namespace.clone(), s.name.clone())).collect()
}

/// Identity and order of a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    owner: Name,
    service: Name,
    kind: String,
    route: String,
}

#[derive(Default)]
struct Cell {
    /// Counted by clients.
    sent: Figures,
    /// Counted by the proxies of the resource itself.
    received: Figures,
    attempts: Figures,
    covered_ms: u64,
}

#[derive(Default)]
struct Rows {
    cells: BTreeMap<Key, Cell>,
    /// Services of each resource, which have rows even without traffic.
    services: BTreeSet<(Name, Name)>,
    /// Services whose pods belong to several resources: counts of their routes are not those of one resource.
    shared: BTreeSet<Name>,
    /// Responses of the endpoints that a resource has in a Service, all routes together.
    endpoints: BTreeMap<(Name, Name), Figures>,
}

impl Rows {
    /// Adds what clients send to the Services of a resource.
    fn received(
        &mut self,
        request: &RoutesRequest,
        objects: &Objects,
        window: &Window,
        selected: &dyn Fn(&Pod) -> bool,
    ) {
        let namespace = request.namespace.as_deref();
        let mut owners: BTreeMap<Name, Vec<Name>> = BTreeMap::new();
        for service in services(&request.resource, namespace, objects, selected) {
            let resources = match request.resource.kind {
                Kind::Service => vec![service.clone()],
                Kind::Namespace => vec![(service.0.clone(), service.0.clone())],
                kind => {
                    let pods = || objects.pods_of(&service.0, &service.1);
                    let foreign = |pod: &Pod| !selected(pod) || pod.name_as(kind).is_none();
                    let names: BTreeSet<_> = pods().filter_map(|pod| pod.name_as(kind)).collect();
                    if names.len() > 1 || pods().any(foreign) {
                        self.shared.insert(service.clone());
                    }
                    let selected = pods().filter(|pod| selected(pod));
                    let resources: BTreeSet<_> = selected.filter_map(|pod| owner(pod, request)).collect();
                    resources.into_iter().collect()
                }
            };
            self.services
                .extend(resources.iter().map(|owner| (owner.clone(), service.clone())));
            owners.insert(service, resources);
        }
        let targets: BTreeSet<Name> = owners.keys().cloned().collect();
        let is_selected = |labels: &Labels| {
            let key = (labels.get("dst_namespace"), labels.get("dst_pod"));
            let mut pods = objects.pods.iter();
            request.labels.is_none() || pods.any(|pod| (&*pod.key.namespace, &*pod.key.name) == key && selected(pod))
        };
        let destinations = Destinations::new(objects, window);
        for view in window.views(request.window_ms) {
            self.outbound(&view, &targets, &|service| {
                owners.get(service).cloned().unwrap_or_default()
            });
            self.endpoints(&view, &targets, &destinations, &|labels, service| {
                let owner = endpoint_owner(labels, request.resource.kind, service);
                owner.filter(|_| is_selected(labels))
            });
            if let Some(owner) = owner(view.pod(), request).filter(|_| selected(view.pod())) {
                self.inbound(&view, &owner);
            }
        }
    }

    /// Adds what a client counts by endpoint: it tells the workloads behind a Service apart, and its latencies have
    /// buckets of milliseconds where those of policy routes begin at 50 ms.
    fn endpoints(
        &mut self,
        view: &View<'_>,
        targets: &BTreeSet<Name>,
        destinations: &Destinations<'_>,
        owner: &dyn Fn(&Labels, &Name) -> Option<Name>,
    ) {
        let keys = |labels: &Labels| -> Vec<(Name, Name)> {
            if labels.get(label::DIRECTION) != "outbound" || !destinations.confirm(labels) {
                return vec![];
            }
            let services = endpoint_services(labels, destinations.objects()).into_iter();
            let targets = services.filter(|service| targets.contains(service));
            targets
                .filter_map(|service| Some((owner(labels, &service)?, service)))
                .collect()
        };
        let covered = view.covered_ms();
        for (labels, gained) in view.increases(Family::ResponseTotal) {
            let failed = labels.get(label::CLASSIFICATION) == classification::FAILURE;
            for key in keys(labels) {
                self.endpoints.entry(key).or_default().count(gained, failed, covered);
            }
        }
        for (labels, gained) in view.increases(Family::LatencyBucket) {
            let Ok(bound) = labels.get(label::LE).parse() else {
                continue;
            };
            for key in keys(labels) {
                self.endpoints.entry(key).or_default().latency(bound, gained);
            }
        }
    }

    fn inbound(&mut self, view: &View<'_>, owner: &Name) {
        self.profiles(view, "inbound", &|_| vec![owner.clone()], &|_| true);
    }

    fn outbound(&mut self, view: &View<'_>, targets: &BTreeSet<Name>, owners: &dyn Fn(&Name) -> Vec<Name>) {
        self.profiles(view, "outbound", owners, &|service| targets.contains(service));
        self.policies(view, targets, owners);
    }

    fn profiles(
        &mut self,
        view: &View<'_>,
        direction: &str,
        owners: &dyn Fn(&Name) -> Vec<Name>,
        wanted: &dyn Fn(&Name) -> bool,
    ) {
        let keys = |labels: &Labels| {
            let service = service(labels.get(label::DST)).filter(|s| wanted(s));
            let service = service.filter(|_| labels.get(label::DIRECTION) == direction)?;
            let route = labels.get("rt_route");
            let route = if route.is_empty() { DEFAULT_ROUTE } else { route };
            Some(keys(owners(&service), &service, PROFILE, route))
        };
        let covered = view.covered_ms();
        for (family, attempts) in [(Family::RouteTotal, false), (Family::RouteActualTotal, true)] {
            for (labels, gained) in view.increases(family) {
                let failed = labels.get(label::CLASSIFICATION) == classification::FAILURE;
                for key in keys(labels).into_iter().flatten() {
                    let cell = self.cell(key, covered);
                    let figures = if attempts {
                        &mut cell.attempts
                    } else {
                        cell.figures(direction)
                    };
                    figures.count(gained, failed, covered);
                }
            }
        }
        for (labels, gained) in view.increases(Family::RouteLatencyBucket) {
            let Ok(bound) = labels.get(label::LE).parse() else {
                continue;
            };
            for key in keys(labels).into_iter().flatten() {
                self.cell(key, covered).figures(direction).latency(bound, gained);
            }
        }
    }

    /// Adds the requests of policy routes, without latencies: their buckets end at 50 ms, 500 ms, 1 s and 10 s.
    fn policies(&mut self, view: &View<'_>, targets: &BTreeSet<Name>, owners: &dyn Fn(&Name) -> Vec<Name>) {
        let keys = |labels: &Labels| {
            let service = (
                labels.get(PARENT_NAMESPACE).to_owned(),
                labels.get(PARENT_NAME).to_owned(),
            );
            let kind = labels.get(label::ROUTE_KIND).to_ascii_lowercase();
            let is_route = matches!(kind.as_str(), "httproute" | "grpcroute");
            let (kind, route) = if is_route {
                (kind.as_str(), labels.get(label::ROUTE_NAME))
            } else {
                ("", DEFAULT_ROUTE)
            };
            targets
                .contains(&service)
                .then(|| keys(owners(&service), &service, kind, route))
        };
        let covered = view.covered_ms();
        for (labels, gained) in view.increases(Family::PolicyRouteTotal) {
            let failed = is_failure(labels);
            for key in keys(labels).into_iter().flatten() {
                self.cell(key, covered).sent.count(gained, failed, covered);
            }
        }
    }

    fn cell(&mut self, key: Key, covered_ms: u64) -> &mut Cell {
        self.services.insert((key.owner.clone(), key.service.clone()));
        let cell = self.cells.entry(key).or_default();
        cell.covered_ms = cell.covered_ms.max(covered_ms);
        cell
    }

    /// Returns the rows. Routes of a profile have one even without traffic, and so does its default route.
    fn into_rows(mut self, request: &RoutesRequest, objects: &Objects) -> Vec<RouteRow> {
        for (owner, service) in std::mem::take(&mut self.services) {
            let mut profiles = objects.profiles.iter();
            let profile = profiles.find(|p| (&p.namespace, &p.service) == (&service.0, &service.1));
            let names = profile
                .iter()
                .flat_map(|p| p.routes.iter().map(String::as_str).chain([DEFAULT_ROUTE]));
            for key in names.flat_map(|route| keys(vec![owner.clone()], &service, PROFILE, route)) {
                self.cells.entry(key).or_default();
            }
        }
        let kind = request.resource.kind.singular();
        let routed: BTreeSet<(Name, Name)> = self
            .cells
            .keys()
            .filter(|key| key.route != DEFAULT_ROUTE)
            .map(|key| (key.owner.clone(), key.service.clone()))
            .collect();
        // A series without an increase has no row unless its route is declared.
        let is_shown = |(key, cell): &(Key, Cell)| !key.kind.is_empty() || !cell.sent.is_idle();
        let cells = std::mem::take(&mut self.cells).into_iter().filter(is_shown);
        let row = |(key, cell): (Key, Cell)| {
            let pair = (key.owner.clone(), key.service.clone());
            let endpoints = self.endpoints.get(&pair).filter(|_| !routed.contains(&pair));
            let is_shared = self.shared.contains(&key.service);
            let figures = cell.shown(&key.kind, endpoints, is_shared);
            row(kind, key, &cell, figures, request.to.is_some())
        };
        cells.map(row).collect()
    }
}

/// Figures of a row, from the counts that are its own.
#[derive(Default)]
struct Shown {
    success: Option<f64>,
    rps: Option<f64>,
    latencies: [Option<u64>; 3],
}

impl From<&Figures> for Shown {
    fn from(figures: &Figures) -> Self {
        Self {
            success: figures.success(),
            rps: figures.rps(),
            latencies: figures.latencies(),
        }
    }
}

impl Cell {
    fn figures(&mut self, direction: &str) -> &mut Figures {
        if direction == "inbound" {
            &mut self.received
        } else {
            &mut self.sent
        }
    }

    /// Selects the counts to show. `endpoints` are those of the Service's endpoints if it has no other route.
    fn shown(&self, route_kind: &str, endpoints: Option<&Figures>, is_shared: bool) -> Shown {
        if !self.received.is_idle() {
            return (&self.received).into();
        }
        if is_shared {
            return endpoints.map(Shown::from).unwrap_or_default();
        }
        let latencies = match route_kind {
            PROFILE => self.sent.latencies(),
            _ => endpoints.map(Figures::latencies).unwrap_or_default(),
        };
        Shown {
            latencies,
            ..(&self.sent).into()
        }
    }
}

fn row(kind: &str, key: Key, cell: &Cell, shown: Shown, with_to: bool) -> RouteRow {
    let attempts = &cell.attempts;
    let [p50, p95, p99] = shown.latencies;
    RouteRow {
        namespace: key.owner.0,
        kind: kind.to_owned(),
        name: key.owner.1,
        route: key.route,
        authority: key.service.1,
        authority_namespace: key.service.0,
        route_kind: key.kind,
        success: shown.success,
        rps: shown.rps,
        latency_ms_p50: p50,
        latency_ms_p95: p95,
        latency_ms_p99: p99,
        effective_success: shown.success.filter(|_| with_to),
        effective_rps: shown.rps.filter(|_| with_to),
        actual_success: attempts.success().filter(|_| with_to),
        actual_rps: attempts.rps().filter(|_| with_to),
        covered_ms: cell.covered_ms,
    }
}

/// Resource of `kind` that an endpoint belongs to; for a request by Service or namespace, that itself.
fn endpoint_owner(labels: &Labels, kind: Kind, service: &Name) -> Option<Name> {
    let namespace = labels.get("dst_namespace");
    let name = match kind {
        Kind::Service => return Some(service.clone()),
        Kind::Namespace => namespace,
        kind => labels.get(&dst_label(kind)),
    };
    (!name.is_empty()).then(|| (namespace.to_owned(), name.to_owned()))
}

/// Services that an endpoint serves: its own, and those that are split over it.
fn endpoint_services(labels: &Labels, objects: &Objects) -> Vec<Name> {
    let (namespace, leaf) = (labels.get("dst_namespace"), labels.get("dst_service"));
    let is_split = |split: &&Split| split.namespace == namespace && split.leaves.iter().any(|(name, _)| name == leaf);
    let apexes = objects.splits.iter().filter(is_split).map(|split| split.apex.as_str());
    let names = [leaf].into_iter().chain(apexes.filter(|apex| *apex != leaf));
    names.map(|name| (namespace.to_owned(), name.to_owned())).collect()
}

fn keys(owners: Vec<Name>, service: &Name, kind: &str, route: &str) -> Vec<Key> {
    let key = |owner| Key {
        owner,
        service: service.clone(),
        kind: kind.to_owned(),
        route: route.to_owned(),
    };
    owners.into_iter().map(key).collect()
}

/// Parses the Service of `name.namespace.svc.domain:port`.
fn service(dst: &str) -> Option<Name> {
    let (name, rest) = dst.split_once('.')?;
    let (namespace, rest) = rest.split_once('.')?;
    rest.starts_with("svc").then(|| (namespace.to_owned(), name.to_owned()))
}

/// Returns whether a policy route counts a failure, by Linkerd's classification.
fn is_failure(labels: &Labels) -> bool {
    let (http, grpc) = (labels.get("http_status"), labels.get(label::GRPC_STATUS));
    !labels.get(label::ERROR).is_empty() || http.starts_with('5') || !(grpc.is_empty() || grpc == "OK")
}

#[cfg(test)]
mod tests;
