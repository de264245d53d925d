//! `InboundServerPolicies`: the server policy of one port of a pod.

mod access;
mod authorization;
mod default;
mod shape;

use std::{collections::BTreeMap, sync::Arc};

use destination_k8s::{Kind, Server, keys, policy::ProxyProtocol, route::HttpRule};
use proxy_model::{
    DefaultPolicy, Meta, ServerPolicy, ServerProtocol,
    defaults::DETECT_TIMEOUT,
    inbound::{Action, GrpcRoute, HttpRoute, RateLimit, RateLimitOverride},
    route::{GrpcMatch, Rule},
};

use crate::{
    Refused, Workload,
    dep::Parent,
    filter,
    pod::IndexedPod,
    reader::Reader,
    route::{self, AnyRoute, Unsupported},
    store,
};

pub(crate) use access::problems as access_problems;
pub(crate) use authorization::problem as authorization_problem;
pub(crate) use shape::Defaults;

use shape::{Shape, default_routes, probe_paths};

/// Lookup of a server policy.
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

/// Builds the current policy; none if the pod is unknown or not meshed by this control plane.
pub(crate) fn policy(reader: &Reader<'_>, defaults: &Defaults, key: &Key) -> Option<Arc<ServerPolicy>> {
    let pod = IndexedPod::new(reader.pod(&key.ns, &key.pod)?);
    if !pod.is_meshed(reader) {
        return None;
    }
    Some(match server_of(reader, pod, key.port) {
        Some(server) => Arc::new(server_policy(reader, pod, server, key.port)),
        None => match access::policy(reader, pod, key.port) {
            Some(policy) => Arc::new(policy),
            None => defaults.policy(reader, Shape::new(reader, pod, key.port)),
        },
    })
}

/// Finds the Server of a port: the oldest, then the first by name.
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

fn server_policy(reader: &Reader<'_>, pod: IndexedPod<'_>, server: &Server, port: u16) -> ServerPolicy {
    let name = server.metadata.name.as_deref().unwrap_or_default();
    let routes = || match http_routes(reader, pod.namespace(), name) {
        routes if routes.is_empty() => default_routes(reader.config, probe_paths(pod, port)),
        routes => routes,
    };
    let rate_limit = || rate_limit(reader, pod.namespace(), name);
    let protocol = match server.spec.proxy_protocol {
        ProxyProtocol::Unknown => ServerProtocol::Detect {
            timeout: Some(DETECT_TIMEOUT),
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
    let mut authorizations = authorization::server_authorizations(reader, server);
    authorizations.extend(access.and_then(|policy| default::authorization(policy, reader.config)));
    ServerPolicy {
        protocol,
        authorizations,
        labels: labels(keys::POLICY_GROUP, "server", name),
        server_ips: vec![],
    }
}

/// Returns the routes of a Server, oldest first.
fn attached<'a>(reader: &Reader<'a>, ns: &str, server: &str) -> impl Iterator<Item = AnyRoute<'a>> {
    let parent = Parent::new(Kind::Server, ns, server);
    let ns = ns.to_owned();
    let all = reader.routes(&parent).into_iter().filter_map(AnyRoute::from_object);
    // A Server's routes are in its own namespace.
    all.filter(move |found| found.namespace() == ns)
}

/// Names a route for server policies: without its namespace.
fn meta(found: AnyRoute<'_>) -> Meta {
    let (group, kind) = found.group_and_kind();
    Meta::resource(group, kind, "", found.name())
}

fn http_routes(reader: &Reader<'_>, ns: &str, server: &str) -> Vec<HttpRoute> {
    let convert = |found: AnyRoute<'_>| -> Option<HttpRoute> {
        let AnyRoute::Http(_, route) = found else { return None };
        reader.accept(found).ok()?;
        let rule = |rule: &HttpRule| -> Result<_, Unsupported> {
            let matches = rule.matches.iter().map(route::http_match).collect::<Result<_, _>>()?;
            Ok(Rule {
                matches,
                filters: filter::http(rule, filter::NO_MIRROR)?,
                action: Action,
            })
        };
        Some(HttpRoute {
            meta: meta(found),
            hosts: route::hosts(&route.spec.hostnames),
            rules: route.spec.rules.iter().map(rule).collect::<Result<_, _>>().ok()?,
            authorizations: authorization::route_authorizations(reader, found),
        })
    };
    attached(reader, ns, server).filter_map(convert).collect()
}

fn grpc_routes(reader: &Reader<'_>, ns: &str, server: &str) -> Vec<GrpcRoute> {
    let convert = |found: AnyRoute<'_>| -> Option<GrpcRoute> {
        let AnyRoute::Grpc(route) = found else { return None };
        reader.accept(found).ok()?;
        let rule = |rule: &destination_k8s::route::GrpcRule| -> Result<_, Unsupported> {
            let matches = rule.matches.iter().map(route::grpc_match).collect::<Result<_, _>>()?;
            Ok(Rule {
                matches,
                filters: filter::grpc(rule, filter::NO_MIRROR)?,
                action: Action,
            })
        };
        Some(GrpcRoute {
            meta: meta(found),
            hosts: route::hosts(&route.spec.hostnames),
            rules: route.spec.rules.iter().map(rule).collect::<Result<_, _>>().ok()?,
            authorizations: authorization::route_authorizations(reader, found),
        })
    };
    let routes: Vec<_> = attached(reader, ns, server).filter_map(convert).collect();
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

/// Finds the rate limit of a Server: the oldest.
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
