//! TrafficTargets at a port without a Server: what they permit to reach the pods of a service account. Once an account
//! has one, what none permits is denied at its pods' ports; a target that is wrong permits nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use destination_k8s::{
    Kind, Object, ObjectRef, Server, TrafficTarget, access::TargetRule, keys, policy::PortRef, specs::GroupMatch,
};
use proxy_model::{
    Authentication, Authorization, DefaultPolicy, Id, Meta, ServerPolicy, ServerProtocol,
    budget::RoutesBudget,
    defaults::EVERYWHERE,
    inbound::{Action, HttpRoute},
    route::Rule,
};

use super::{default::whole, labels, shape::Shape};
use crate::{
    access::{self, Fault, RuleKind},
    limits::{ACCOUNT_IDENTITIES, ACCOUNT_TARGETS},
    pod::IndexedPod,
    reader::Reader,
    store,
};

/// Permissions of one target.
struct Grant {
    /// Ports of its TCPRoutes; none means all.
    ports: Option<Vec<u16>>,
    /// Requests of its HTTPRouteGroups; without any, whole connections.
    routes: Vec<HttpRoute>,
    clients: Authorization,
}

/// Targets of one service account, oldest first, with what each permits.
type Grants<'a> = Vec<(&'a TrafficTarget, Result<Grant, Fault>)>;

/// Use that the targets of an account have made of its limits.
#[derive(Default)]
struct Budget {
    targets: usize,
    identities: usize,
    routes: RoutesBudget,
}

/// Builds the policy of a port; none if no target is for the pod's service account. The sidecar's own ports are not
/// the application's.
pub(super) fn policy<'a>(reader: &Reader<'a>, pod: IndexedPod<'a>, port: u16) -> Option<ServerPolicy> {
    let grants = grants(reader, pod.namespace(), pod.service_account());
    if grants.is_empty() || pod.is_sidecar_port(port) {
        return None;
    }
    let mut policy = Shape::new(reader, pod, port).policy(reader.config);
    policy.labels = labels("", "default", DefaultPolicy::Deny.as_str());
    policy.authorizations.clear();
    let mut routes = vec![];
    for (target, grant) in grants {
        let Some(grant) = grant.ok().filter(|grant| is_open(target, grant, pod, port)) else {
            continue;
        };
        if grant.routes.is_empty() {
            policy.authorizations.push(grant.clients);
        } else {
            routes.extend(grant.routes);
        }
    }
    match &mut policy.protocol {
        // The default routes follow, so that what no group matches is denied rather than unknown.
        ServerProtocol::Detect { routes: all, .. }
        | ServerProtocol::Http1 { routes: all, .. }
        | ServerProtocol::Http2 { routes: all, .. } => {
            all.splice(..0, routes);
        }
        // Opaque bytes have no requests.
        ServerProtocol::Grpc { .. } | ServerProtocol::Opaque | ServerProtocol::Tls => {}
    }
    Some(policy)
}

fn is_open(target: &TrafficTarget, grant: &Grant, pod: IndexedPod<'_>, port: u16) -> bool {
    let named = match &target.spec.destination.port {
        None => true,
        Some(PortRef::Number(number)) => *number == port,
        Some(PortRef::Name(name)) => pod.ports().any(|(number, own)| number == port && own == Some(name)),
    };
    named && grant.ports.as_ref().is_none_or(|ports| ports.contains(&port))
}

fn grants<'a>(reader: &Reader<'a>, ns: &str, account: &str) -> Grants<'a> {
    let all = reader.targets(ns);
    let mut targets: Vec<&Arc<TrafficTarget>> = all.filter(|t| t.spec.destination.name == account).collect();
    targets.sort_by(|a, b| store::age(&a.metadata).cmp(&store::age(&b.metadata)));
    let mut budget = Budget::default();
    let grant = |target: &'a Arc<TrafficTarget>| (&**target, grant(reader, target, &mut budget));
    targets.into_iter().map(grant).collect()
}

fn grant(reader: &Reader<'_>, target: &TrafficTarget, budget: &mut Budget) -> Result<Grant, Fault> {
    access::check_target(target)?;
    if budget.targets >= ACCOUNT_TARGETS.value {
        return Err(Fault::TooMany(ACCOUNT_TARGETS));
    }
    budget.targets += 1;
    let ns = target.metadata.namespace.as_deref().unwrap_or_default();
    let clients = clients(reader, target)?;
    let (mut ports, mut routes) = (None::<Vec<u16>>, vec![]);
    let mut is_any_port = false;
    for rule in &target.spec.rules {
        budget.identities += target.spec.sources.len();
        if budget.identities > ACCOUNT_IDENTITIES.value {
            return Err(Fault::TooMany(ACCOUNT_IDENTITIES));
        }
        match access::rule_kind(rule)? {
            RuleKind::Http => routes.push(http_route(reader, ns, rule, &clients, budget)?),
            RuleKind::Tcp => {
                let missing = || Fault::Missing(Kind::SmiTcpRoute, rule.name.clone());
                let found = reader.connection_route(ns, &rule.name).ok_or_else(missing)?;
                let listed = &found.spec.matches.ports;
                is_any_port |= listed.is_empty();
                ports.get_or_insert_default().extend(listed);
            }
        }
    }
    Ok(Grant {
        ports: ports.filter(|_| !is_any_port),
        routes,
        clients,
    })
}

fn http_route(
    reader: &Reader<'_>,
    ns: &str,
    rule: &TargetRule,
    clients: &Authorization,
    budget: &mut Budget,
) -> Result<HttpRoute, Fault> {
    let name = &rule.name;
    let missing = || Fault::Missing(Kind::HttpRouteGroup, name.clone());
    let group = reader.route_group(ns, name).ok_or_else(missing)?;
    let check = reader.check(&ObjectRef::new(Kind::HttpRouteGroup, ns, name));
    let refused = || Fault::Refused(name.clone());
    if check.is_some_and(|check| check.refusal.is_some()) {
        return Err(refused());
    }
    let cost = check.and_then(|check| check.budget.clone()).unwrap_or_default();
    budget.routes.add(&cost)?;
    let all = &group.spec.matches;
    let unknown = |wanted: &&String| !all.iter().any(|found| found.name == **wanted);
    if let Some(unknown) = rule.matches.iter().find(unknown) {
        return Err(Fault::Match {
            group: name.clone(),
            name: unknown.clone(),
        });
    }
    let selected = |found: &&GroupMatch| rule.matches.is_empty() || rule.matches.contains(&found.name);
    let mut matches = vec![];
    for found in all.iter().filter(selected) {
        matches.extend(access::http_matches(found).map_err(|_| refused())?);
    }
    // A rule without matches would match everything.
    if matches.is_empty() {
        return Err(Fault::NoMatches(name.clone()));
    }
    Ok(HttpRoute {
        meta: Meta::resource(keys::SPECS_GROUP, Kind::HttpRouteGroup.as_str(), "", name),
        hosts: vec![],
        rules: vec![Rule {
            matches,
            filters: vec![],
            action: Action,
        }],
        authorizations: vec![clients.clone()],
    })
}

fn clients(reader: &Reader<'_>, target: &TrafficTarget) -> Result<Authorization, Fault> {
    let ns = target.metadata.namespace.as_deref().unwrap_or_default();
    let mut identities = vec![];
    for source in &target.spec.sources {
        let name = reader
            .config
            .identity(source.namespace.as_deref().unwrap_or(ns), &source.name);
        let id: Id = name.parse().map_err(|_| Fault::Identity(source.name.clone()))?;
        identities.push(id);
    }
    identities.sort();
    let name = target.metadata.name.as_deref().unwrap_or_default();
    Ok(Authorization {
        networks: whole(&EVERYWHERE),
        authentication: Authentication::TlsAuthenticated {
            identities,
            suffixes: vec![],
        },
        labels: labels(keys::ACCESS_GROUP, "traffictarget", name),
        meta: Some(Meta::resource(keys::ACCESS_GROUP, "traffictarget", "", name)),
    })
}

/// Reports what targets do not do: those that permit nothing, and the ports at which they do not act.
pub(crate) fn problems(reader: &Reader<'_>, add: &mut impl FnMut(&Object, String)) {
    let mut accounts: BTreeMap<(&str, &str), Vec<&Object>> = BTreeMap::new();
    for object in reader.all(Kind::TrafficTarget) {
        let Object::TrafficTarget(target) = object else {
            continue;
        };
        let account = (object.namespace(), target.spec.destination.name.as_str());
        accounts.entry(account).or_default().push(object);
    }
    for ((ns, account), objects) in accounts {
        let grants = grants(reader, ns, account);
        let pods = pods(reader, ns, account);
        let servers: Vec<_> = reader.servers(ns).filter(|server| selects_any(server, &pods)).collect();
        for object in objects {
            let is_it = |(target, _): &&(&TrafficTarget, _)| target.metadata.name.as_deref() == Some(object.name());
            let Some((target, grant)) = grants.iter().find(is_it) else {
                continue;
            };
            match grant {
                // The check of the object alone has reported it.
                Err(_) if access::check_target(target).is_err() => {}
                Err(fault) => add(object, format!("{fault}, so the target allows nothing")),
                Ok(grant) => {
                    for port in opaque_ports(reader, target, grant, &pods) {
                        add(
                            object,
                            format!("the port {port} is opaque, so requests to it are not allowed"),
                        );
                    }
                }
            }
            for server in &servers {
                let name = server.metadata.name.as_deref().unwrap_or_default();
                let port = match &server.spec.port {
                    PortRef::Number(number) => number.to_string(),
                    PortRef::Name(name) => name.clone(),
                };
                add(
                    object,
                    format!(
                        "the Server {ns}/{name} decides alone about the port {port}, so the target does not act there"
                    ),
                );
            }
        }
    }
}

/// Meshed pods of a service account.
fn pods<'a>(reader: &Reader<'a>, ns: &str, account: &str) -> Vec<IndexedPod<'a>> {
    let pods = reader.list(Kind::Pod, ns).filter_map(|object| match object {
        Object::Pod(pod) => Some(IndexedPod::new(pod)),
        _ => None,
    });
    pods.filter(|pod| pod.service_account() == account && pod.is_meshed(reader))
        .collect()
}

fn selects_any(server: &Server, pods: &[IndexedPod<'_>]) -> bool {
    let selector = server.spec.pod_selector.as_ref();
    let selects = |pod: &IndexedPod<'_>| match &server.spec.port {
        PortRef::Number(number) => pod.is_server(selector, &server.spec.port, *number),
        PortRef::Name(_) => pod
            .ports()
            .any(|(number, _)| pod.is_server(selector, &server.spec.port, number)),
    };
    pods.iter().any(selects)
}

/// Declared ports at which a target would allow requests, if they were not opaque.
fn opaque_ports<'a>(
    reader: &Reader<'a>,
    target: &TrafficTarget,
    grant: &Grant,
    pods: &[IndexedPod<'a>],
) -> BTreeSet<u16> {
    if grant.routes.is_empty() {
        return BTreeSet::new();
    }
    let ports = pods.iter().flat_map(|pod| pod.ports().map(|(port, _)| (*pod, port)));
    let is_closed = |(pod, port): &(IndexedPod<'a>, u16)| {
        is_open(target, grant, *pod, *port) && pod.is_opaque_inbound(reader, *port) && !pod.is_sidecar_port(*port)
    };
    ports.filter(is_closed).map(|(_, port)| port).collect()
}
