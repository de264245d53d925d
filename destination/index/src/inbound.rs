//! `InboundServerPolicies`: what a sidecar does with connections to one port of its pod.

mod authorization;
mod default;
mod shape;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use destination_k8s::{Kind, Server, keys, policy::ProxyProtocol, route::HttpRule};
use proxy_model::{
    Meta, ServerPolicy, ServerProtocol,
    inbound::{Action, GrpcRoute, HttpRoute, RateLimit, RateLimitOverride},
    route::{GrpcMatch, Rule},
};

use crate::{
    Refused, Workload,
    pod::IndexedPod,
    reader::Reader,
    route::{self, AnyRoute, Unsupported},
    store::{self, Parent},
};

pub(crate) use authorization::problem as authorization_problem;
pub use default::{DefaultPolicy, InvalidPolicy};
pub(crate) use shape::Defaults;

use shape::{Shape, default_routes, probe_paths};

/// Time for the first bytes before a connection is taken for opaque.
const DETECT: Duration = Duration::from_secs(10);

/// One question.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    ns: Arc<str>,
    pod: Arc<str>,
    port: u16,
}

impl Key {
    pub(crate) fn new(workload: &Workload, port: u16) -> Result<Self, Refused> {
        if port == 0 {
            return Err(Refused::Invalid("Invalid port: 0".to_owned()));
        }
        match &workload.pod {
            Some(pod) => Ok(Self {
                ns: workload.ns.clone(),
                pod: pod.clone(),
                port,
            }),
            None => Err(Refused::NotFound("unknown server".to_owned())),
        }
    }
}

/// The policy as it is now; none if the pod is unknown or has no sidecar of ours.
pub(crate) fn policy(reader: &Reader<'_>, defaults: &Defaults, key: &Key) -> Option<Arc<ServerPolicy>> {
    let pod = IndexedPod::new(reader.pod(&key.ns, &key.pod)?);
    if !pod.is_meshed(reader) {
        return None;
    }
    Some(match server_of(reader, pod, key.port) {
        Some(server) => Arc::new(of_server(reader, pod, server, key.port)),
        None => defaults.policy(reader, Shape::of(reader, pod, key.port)),
    })
}

/// The Server of a port: the oldest, then the first by name.
fn server_of<'a>(reader: &Reader<'a>, pod: IndexedPod<'a>, port: u16) -> Option<&'a Server> {
    let mut servers: Vec<&Arc<Server>> = reader
        .servers(pod.namespace())
        .filter(|server| pod.is_server(server.spec.pod_selector.as_ref(), &server.spec.port, port))
        .collect();
    servers.sort_by(|a, b| store::age(&a.metadata).cmp(&store::age(&b.metadata)));
    servers.first().map(|server| &***server)
}

fn labels(group: &str, kind: &str, name: &str) -> BTreeMap<String, String> {
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    BTreeMap::from([pair("group", group), pair("kind", kind), pair("name", name)])
}

fn of_server(reader: &Reader<'_>, pod: IndexedPod<'_>, server: &Server, port: u16) -> ServerPolicy {
    let name = server.metadata.name.as_deref().unwrap_or_default();
    let routes = || match http_routes(reader, pod.namespace(), name) {
        routes if routes.is_empty() => default_routes(reader.config, probe_paths(pod, port)),
        routes => routes,
    };
    let rate_limit = || rate_limit(reader, pod.namespace(), name);
    let protocol = match server.spec.proxy_protocol {
        ProxyProtocol::Unknown => ServerProtocol::Detect {
            timeout: Some(DETECT),
            routes: routes(),
            rate_limit: rate_limit(),
        },
        ProxyProtocol::Http1 => ServerProtocol::Http1 {
            routes: routes(),
            rate_limit: rate_limit(),
        },
        ProxyProtocol::Http2 => ServerProtocol::Http2 {
            routes: routes(),
            rate_limit: rate_limit(),
        },
        ProxyProtocol::Grpc => ServerProtocol::Grpc {
            routes: grpc_routes(reader, pod.namespace(), name),
        },
        ProxyProtocol::Opaque => ServerProtocol::Opaque,
        ProxyProtocol::Tls => ServerProtocol::Tls,
    };
    let access = server
        .spec
        .access_policy
        .as_deref()
        .and_then(|text| text.parse::<DefaultPolicy>().ok());
    let mut authorizations = authorization::of_server(reader, server);
    authorizations.extend(access.and_then(|policy| policy.authorization(reader.config)));
    ServerPolicy {
        protocol,
        authorizations,
        labels: labels(keys::POLICY_GROUP, "server", name),
        server_ips: vec![],
    }
}

/// The routes of a Server, oldest first.
fn attached<'a>(reader: &Reader<'a>, ns: &str, server: &str) -> impl Iterator<Item = AnyRoute<'a>> {
    let parent = Parent::new(Kind::Server, ns, server);
    let ns = ns.to_owned();
    let all = reader.routes(&parent).into_iter().filter_map(AnyRoute::of);
    // A Server's routes stand in its own namespace.
    all.filter(move |found| found.namespace() == ns)
}

/// The route as inbound answers name it: without its namespace.
fn meta(found: AnyRoute<'_>) -> Meta {
    let (group, kind) = found.group_and_kind();
    Meta::resource(group, kind, "", found.name())
}

fn http_routes(reader: &Reader<'_>, ns: &str, server: &str) -> Vec<HttpRoute> {
    let of_route = |found: AnyRoute<'_>| -> Option<HttpRoute> {
        let AnyRoute::Http(_, route) = found else { return None };
        let rule = |rule: &HttpRule| -> Result<_, Unsupported> {
            let matches = rule.matches.iter().map(route::http_match).collect::<Result<_, _>>()?;
            Ok(Rule {
                matches,
                filters: route::filters(&rule.filters)?,
                action: Action,
            })
        };
        Some(HttpRoute {
            meta: meta(found),
            hosts: route::hosts(&route.spec.hostnames),
            rules: route.spec.rules.iter().map(rule).collect::<Result<_, _>>().ok()?,
            authorizations: authorization::of_route(reader, found),
        })
    };
    attached(reader, ns, server).filter_map(of_route).collect()
}

fn grpc_routes(reader: &Reader<'_>, ns: &str, server: &str) -> Vec<GrpcRoute> {
    let of_route = |found: AnyRoute<'_>| -> Option<GrpcRoute> {
        let AnyRoute::Grpc(route) = found else { return None };
        let rule = |rule: &destination_k8s::route::GrpcRule| -> Result<_, Unsupported> {
            let matches = rule.matches.iter().map(route::grpc_match).collect::<Result<_, _>>()?;
            Ok(Rule {
                matches,
                filters: route::filters(&rule.filters)?,
                action: Action,
            })
        };
        Some(GrpcRoute {
            meta: meta(found),
            hosts: route::hosts(&route.spec.hostnames),
            rules: route.spec.rules.iter().map(rule).collect::<Result<_, _>>().ok()?,
            authorizations: authorization::of_route(reader, found),
        })
    };
    let routes: Vec<_> = attached(reader, ns, server).filter_map(of_route).collect();
    if !routes.is_empty() {
        return routes;
    }
    let everything = GrpcMatch {
        has_rpc: true,
        ..GrpcMatch::default()
    };
    vec![GrpcRoute {
        meta: Meta::default_named("default"),
        hosts: vec![],
        rules: vec![Rule {
            matches: vec![everything],
            filters: vec![],
            action: Action,
        }],
        authorizations: vec![],
    }]
}

/// The rate limit of a Server: the oldest counts.
fn rate_limit(reader: &Reader<'_>, ns: &str, server: &str) -> Option<RateLimit> {
    let mut limits: Vec<_> = reader
        .rate_limits(ns)
        .filter(|limit| {
            let target = &limit.spec.target_ref;
            target.is(keys::POLICY_GROUP, "Server") && target.name == server
        })
        .collect();
    limits.sort_by(|a, b| store::age(&a.metadata).cmp(&store::age(&b.metadata)));
    let limit = limits.first()?;
    let overrides = limit.spec.overrides.iter().flatten().map(|found| {
        let clients = found
            .client_refs
            .iter()
            .filter(|client| client.is("", "ServiceAccount"));
        let ids = clients.map(|client| {
            reader
                .config
                .identity(client.namespace.as_deref().unwrap_or(ns), &client.name)
        });
        RateLimitOverride {
            requests_per_second: found.requests_per_second,
            clients: ids.filter_map(|id| id.parse().ok()).collect(),
        }
    });
    let name = limit.metadata.name.as_deref().unwrap_or_default();
    Some(RateLimit {
        meta: Some(Meta::resource(keys::POLICY_GROUP, "HTTPLocalRateLimitPolicy", "", name)),
        total: limit.spec.total.map(|limit| limit.requests_per_second),
        identity: limit.spec.identity.map(|limit| limit.requests_per_second),
        overrides: overrides.collect(),
    })
}
