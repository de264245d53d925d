//! Routes of a parent: those of its own namespace and of the client's, in one list by age.

use destination_k8s::{
    keys,
    route::{BackendRef, GrpcRule, HttpRule},
};
use proxy_model::{
    outbound::{Action, Distribution, GrpcRoute, HttpRoute, RouteBackend, TcpRoute},
    route::{Filter, GrpcMatch, HttpMatch, PathMatch, Ratio, Retry, Rule, Timeouts},
};

use super::{
    Apex, Fallback,
    annotations::Annotations,
    backend::{self, Failure},
};
use crate::{
    dep::Parent,
    filter,
    reader::Reader,
    route::{self, AnyRoute, Traffic, Unsupported},
};

/// Returns the routes that apply to this client at this port.
fn attached<'a>(reader: &Reader<'a>, apex: &Apex<'_>) -> Vec<AnyRoute<'a>> {
    let is_ours = |found: &AnyRoute<'_>| {
        let ns = found.namespace();
        let visible = ns == &*apex.parent.namespace || ns == apex.client_ns;
        visible
            && found.parents().iter().any(|parent| {
                let same = Parent::from_ref(parent, ns).as_ref() == Some(&apex.parent);
                // An EgressNetwork's routes must say their port.
                let all_ports = parent.port.is_none() && apex.egress.is_none();
                same && (all_ports || parent.port == Some(apex.port))
            })
    };
    reader
        .routes(&apex.parent)
        .into_iter()
        .filter_map(AnyRoute::from_object)
        .filter(is_ours)
        .collect()
}

/// Returns the kind of traffic whose routes take precedence, if there are any.
pub(super) fn traffic(reader: &Reader<'_>, apex: &Apex<'_>) -> Option<Traffic> {
    attached(reader, apex).into_iter().map(AnyRoute::traffic).min()
}

/// Builds the TLS routes, with the default one where it applies.
pub(super) fn tls(reader: &Reader<'_>, apex: &Apex<'_>) -> Vec<TcpRoute> {
    let mut routes = opaque(reader, apex, Traffic::Tls);
    if apex.fallback != Fallback::Service {
        routes.push(apex.opaque_route(apex.fallback.name("tls", "tls")));
    }
    routes
}

/// Builds the TCP route; the API has a place for only one.
pub(super) fn tcp(reader: &Reader<'_>, apex: &Apex<'_>) -> Option<TcpRoute> {
    opaque(reader, apex, Traffic::Tcp).into_iter().next()
}

fn opaque(reader: &Reader<'_>, apex: &Apex<'_>, traffic: Traffic) -> Vec<TcpRoute> {
    let convert = |found: AnyRoute<'_>| -> Option<TcpRoute> {
        let (AnyRoute::Tls(route) | AnyRoute::Tcp(route)) = found else {
            return None;
        };
        reader.accept(found).ok()?;
        let [rule] = route.spec.rules.as_slice() else {
            return None;
        };
        let own = (found.namespace(), rule.backend_refs.as_slice());
        let action = distribution(reader, apex, own, Failure::Opaque).ok()?;
        Some(TcpRoute {
            meta: found.meta(),
            snis: route::hosts(&route.spec.hostnames),
            rules: vec![Rule {
                matches: vec![],
                filters: vec![],
                action,
            }],
        })
    };
    let found = attached(reader, apex).into_iter();
    found
        .filter(|found| found.traffic() == traffic)
        .filter_map(convert)
        .collect()
}

/// Builds the HTTP routes, with the default one where it applies.
pub(super) fn http(reader: &Reader<'_>, apex: &Apex<'_>) -> Vec<HttpRoute> {
    let found = attached(reader, apex);
    let mut routes: Vec<HttpRoute> = found
        .into_iter()
        .filter_map(|found| http_route(reader, apex, found).ok().flatten())
        .collect();
    if apex.fallback != Fallback::Service || routes.is_empty() {
        let everything = HttpMatch {
            path: Some(PathMatch::Prefix("/".to_owned())),
            ..HttpMatch::default()
        };
        let message = "traffic not allowed".to_owned();
        let refuse = Filter::FailHttp {
            status: 403,
            message,
            ratio: Ratio::ALL,
        };
        routes.push(HttpRoute {
            meta: apex.fallback.name("http", "http"),
            hosts: vec![],
            rules: vec![default_rule(apex, everything, refuse)],
            authorizations: vec![],
        });
    }
    routes
}

/// The gRPC routes, with the default one where it belongs.
pub(super) fn grpc(reader: &Reader<'_>, apex: &Apex<'_>) -> Vec<GrpcRoute> {
    let found = attached(reader, apex);
    let mut routes: Vec<GrpcRoute> = found
        .into_iter()
        .filter_map(|found| grpc_route(reader, apex, found).ok().flatten())
        .collect();
    if apex.fallback != Fallback::Service {
        let message = "traffic not allowed".to_owned();
        let refuse = Filter::FailGrpc {
            code: 7,
            message,
            ratio: Ratio::ALL,
        };
        routes.push(GrpcRoute {
            meta: apex.fallback.name("grpc", "grpc"),
            hosts: vec![],
            rules: vec![default_rule(apex, GrpcMatch::default(), refuse)],
            authorizations: vec![],
        });
    }
    routes
}

fn default_rule<M>(apex: &Apex<'_>, everything: M, refuse: Filter) -> Rule<M, Action> {
    let filters = if apex.fallback == Fallback::Deny {
        vec![refuse]
    } else {
        vec![]
    };
    let action = Action {
        distribution: apex.own_backend(),
        timeouts: apex.settings.timeouts.unwrap_or_default(),
        retry: apex.settings.http_retry.clone(),
        allow_l5d_request_headers: false,
    };
    Rule {
        matches: vec![everything],
        filters,
        action,
    }
}

fn http_route(reader: &Reader<'_>, apex: &Apex<'_>, found: AnyRoute<'_>) -> Result<Option<HttpRoute>, Unsupported> {
    let AnyRoute::Http(_, route) = found else {
        return Ok(None);
    };
    reader.accept(found)?;
    filter::mirrors_act(found)?;
    let mirror = |backend: &BackendRef| backend::mirror(reader, apex, backend, (found.namespace(), Failure::Http));
    let annotations = Annotations::new(route.metadata.annotations.as_ref());
    let own = annotations.settings();
    let retry = own.http_retry.or_else(|| apex.settings.http_retry.clone());
    let rule = |rule: &HttpRule| {
        let request = rule
            .timeouts
            .as_ref()
            .and_then(|t| t.request.as_deref())
            .and_then(proxy_model::duration::go);
        let said = with_field(own.timeouts, request.filter(|request| !request.is_zero()));
        let settings = RuleSettings {
            timeouts: said.or(apex.settings.timeouts),
            retry: retry.clone(),
            failure: Failure::Http,
        };
        Ok(Rule {
            matches: rule
                .matches
                .iter()
                .map(route::http_match)
                .collect::<Result<_, Unsupported>>()?,
            filters: filter::http(rule, &mirror)?,
            action: action(reader, apex, (found.namespace(), &rule.backend_refs), settings)?,
        })
    };
    let rules = route.spec.rules.iter().map(rule).collect::<Result<_, Unsupported>>()?;
    let hosts = route::hosts(&route.spec.hostnames);
    Ok(Some(HttpRoute {
        meta: found.meta(),
        hosts,
        rules,
        authorizations: vec![],
    }))
}

fn grpc_route(reader: &Reader<'_>, apex: &Apex<'_>, found: AnyRoute<'_>) -> Result<Option<GrpcRoute>, Unsupported> {
    let AnyRoute::Grpc(route) = found else { return Ok(None) };
    reader.accept(found)?;
    filter::mirrors_act(found)?;
    let mirror = |backend: &BackendRef| backend::mirror(reader, apex, backend, (found.namespace(), Failure::Grpc));
    let annotations = Annotations::new(route.metadata.annotations.as_ref());
    let own = annotations.settings();
    let retry = own.grpc_retry.or_else(|| apex.settings.grpc_retry.clone());
    let rule = |rule: &GrpcRule| {
        let timeouts = own.timeouts.or(apex.settings.timeouts);
        let settings = RuleSettings {
            timeouts,
            retry: retry.clone(),
            failure: Failure::Grpc,
        };
        Ok(Rule {
            matches: rule
                .matches
                .iter()
                .map(route::grpc_match)
                .collect::<Result<_, Unsupported>>()?,
            filters: filter::grpc(rule, &mirror)?,
            action: action(reader, apex, (found.namespace(), &rule.backend_refs), settings)?,
        })
    };
    let rules = route.spec.rules.iter().map(rule).collect::<Result<_, Unsupported>>()?;
    let hosts = route::hosts(&route.spec.hostnames);
    Ok(Some(GrpcRoute {
        meta: found.meta(),
        hosts,
        rules,
        authorizations: vec![],
    }))
}

/// Merges a route's timeouts: the annotation takes precedence over the rule's field.
fn with_field(said: Option<Timeouts>, request: Option<std::time::Duration>) -> Option<Timeouts> {
    match (said, request) {
        (None, None) => None,
        (said, request) => {
            let said = said.unwrap_or_default();
            Some(Timeouts {
                request: said.request.or(request),
                ..said
            })
        }
    }
}

/// Builds the distribution of a rule.
fn distribution(
    reader: &Reader<'_>,
    apex: &Apex<'_>,
    (route_ns, refs): (&str, &[BackendRef]),
    failure: Failure,
) -> Result<Distribution, Unsupported> {
    if refs.is_empty() {
        return Ok(apex.own_backend());
    }
    let backend = |found: &BackendRef| -> Result<(RouteBackend, u32), Unsupported> {
        Ok((
            backend::resolve(reader, apex, found, (route_ns, failure))?,
            found.weight,
        ))
    };
    let backends = refs.iter().map(backend).collect::<Result<_, _>>()?;
    Ok(Distribution::RandomAvailable(backends))
}

/// Settings of a rule besides its backends.
struct RuleSettings {
    timeouts: Option<Timeouts>,
    retry: Option<Retry>,
    failure: Failure,
}

fn action(
    reader: &Reader<'_>,
    apex: &Apex<'_>,
    (route_ns, refs): (&str, &[BackendRef]),
    settings: RuleSettings,
) -> Result<Action, Unsupported> {
    let distribution = distribution(reader, apex, (route_ns, refs), settings.failure)?;
    let timeouts = settings.timeouts.unwrap_or_default();
    Ok(Action {
        distribution,
        timeouts,
        retry: settings.retry,
        allow_l5d_request_headers: false,
    })
}

/// Returns the reason for which a route is ignored, if it is.
pub(crate) fn problem(found: AnyRoute<'_>) -> Option<Unsupported> {
    let backends = |refs: &[BackendRef]| -> Result<(), Unsupported> {
        for found in refs {
            filter::backend(found)?;
            let (group, kind) = (found.group.as_deref().unwrap_or_default(), found.kind.as_deref());
            let is_egress = group == keys::POLICY_GROUP && kind == Some("EgressNetwork");
            if !is_egress && !backend::is_service(found) {
                return Err(Unsupported::Backend(found.kind.clone().unwrap_or_default()));
            }
        }
        Ok(())
    };
    let mirror = |found: &BackendRef| {
        if backend::is_service(found) {
            return Ok(None);
        }
        Err(Unsupported::Backend(found.kind.clone().unwrap_or_default()))
    };
    let check = || -> Result<(), Unsupported> {
        filter::mirrors_act(found)?;
        match found {
            AnyRoute::Http(_, found) => {
                for rule in &found.spec.rules {
                    rule.matches
                        .iter()
                        .try_for_each(|found| route::http_match(found).map(drop))?;
                    filter::http(rule, &mirror)?;
                    backends(&rule.backend_refs)?;
                }
            }
            AnyRoute::Grpc(found) => {
                for rule in &found.spec.rules {
                    rule.matches
                        .iter()
                        .try_for_each(|found| route::grpc_match(found).map(drop))?;
                    filter::grpc(rule, &mirror)?;
                    backends(&rule.backend_refs)?;
                }
            }
            AnyRoute::Tls(route) | AnyRoute::Tcp(route) => {
                let [rule] = route.spec.rules.as_slice() else {
                    let kind = found.group_and_kind().1;
                    let rules = route.spec.rules.len();
                    return Err(Unsupported::Rules { kind, rules });
                };
                backends(&rule.backend_refs)?;
            }
        }
        Ok(())
    };
    check().err()
}
