//! Budgets of the routes in a message, counted before anything is decoded or compiled. They are those of the objects
//! that our control plane makes the routes of; another control plane is bound by them as well.

use linkerd2_proxy_api::{
    destination::{DestinationProfile, RequestMatch, ResponseMatch, request_match, response_match},
    grpc_route::GrpcRouteMatch,
    http_route::{HeaderMatch, HttpRouteMatch, QueryParamMatch, header_match, path_match, query_param_match},
    inbound, outbound,
};
use proxy_model::budget::{Exceeded, PatternFault, RouteBudget, RoutesBudget};

use crate::{Error, Result, error::Within};

type Counted = std::result::Result<(), Exceeded>;

/// Counts routes of any of the four types, whose fields have the same names.
macro_rules! each_route {
    ($field:expr, $routes:expr, $all:expr, $matches:path) => {
        each($field, $routes, $all, |route, budget| {
            budget.parts(route.hosts.len())?;
            rules(&route.rules, budget, |rule, budget| {
                budget.parts(rule.filters.len())?;
                $matches(&rule.matches, budget)
            })
        })
    };
}

/// Checks one message of `Destination.GetProfile`: one object.
pub(crate) fn profile(wire: &DestinationProfile) -> Result<()> {
    counted(profile_routes(wire, &mut RouteBudget::default())).within("routes")
}

/// Checks one message of `OutboundPolicies.Watch`.
pub(crate) fn client_policy(wire: &outbound::OutboundPolicy) -> Result<()> {
    use outbound::proxy_protocol::Kind;
    let kind = wire.protocol.as_ref().and_then(|protocol| protocol.kind.as_ref());
    let mut all = RoutesBudget::default();
    let mut http = |field: &str, routes: &[outbound::HttpRoute]| each_route!(field, routes, &mut all, http_matches);
    match kind {
        Some(Kind::Detect(detect)) => {
            let http1 = detect.http1.as_ref().map_or(&[][..], |http| &http.routes);
            let http2 = detect.http2.as_ref().map_or(&[][..], |http| &http.routes);
            http("detect.http1.routes", http1).and_then(|()| http("detect.http2.routes", http2))
        }
        Some(Kind::Http1(wire)) => http("http1.routes", &wire.routes),
        Some(Kind::Http2(wire)) => http("http2.routes", &wire.routes),
        Some(Kind::Grpc(wire)) => each_route!("grpc.routes", &wire.routes, &mut all, grpc_matches),
        // They have one rule, without expressions.
        Some(Kind::Opaque(_) | Kind::Tls(_)) | None => Ok(()),
    }
    .within("protocol")
}

/// Checks one message of `InboundServerPolicies.WatchPort`.
pub(crate) fn server_policy(wire: &inbound::Server) -> Result<()> {
    use inbound::proxy_protocol::Kind;
    let kind = wire.protocol.as_ref().and_then(|protocol| protocol.kind.as_ref());
    let mut all = RoutesBudget::default();
    let mut http = |field: &str, routes: &[inbound::HttpRoute]| each_route!(field, routes, &mut all, http_matches);
    match kind {
        Some(Kind::Detect(wire)) => http("detect.http_routes", &wire.http_routes),
        Some(Kind::Http1(wire)) => http("http1.routes", &wire.routes),
        Some(Kind::Http2(wire)) => http("http2.routes", &wire.routes),
        Some(Kind::Grpc(wire)) => each_route!("grpc.routes", &wire.routes, &mut all, grpc_matches),
        Some(Kind::Opaque(_) | Kind::Tls(_)) | None => Ok(()),
    }
    .within("protocol")
}

fn counted(counted: Counted) -> Result<()> {
    counted.map_err(|exceeded| Error::invalid("", format_args!("has {exceeded}")))
}

/// Counts each route by itself, and all together.
fn each<R>(
    field: &str,
    routes: &[R],
    all: &mut RoutesBudget,
    count: impl Fn(&R, &mut RouteBudget) -> Counted,
) -> Result<()> {
    for (at, route) in routes.iter().enumerate() {
        let mut budget = RouteBudget::default();
        let fits = count(route, &mut budget).and_then(|()| all.add(&budget));
        counted(fits).within(&format!("{field}[{at}]"))?;
    }
    Ok(())
}

fn rules<R>(rules: &[R], budget: &mut RouteBudget, count: impl Fn(&R, &mut RouteBudget) -> Counted) -> Counted {
    budget.routes(rules.len())?;
    rules.iter().try_for_each(|rule| count(rule, budget))
}

fn profile_routes(wire: &DestinationProfile, budget: &mut RouteBudget) -> Counted {
    budget.routes(wire.routes.len())?;
    budget.parts(wire.dst_overrides.len())?;
    for route in &wire.routes {
        if let Some(condition) = &route.condition {
            request(condition, budget)?;
        }
        let classes = route.response_classes.iter();
        for condition in classes.filter_map(|class| class.condition.as_ref()) {
            response(condition, budget)?;
        }
    }
    Ok(())
}

/// Counts a condition; its nesting is bounded by protobuf's own.
fn request(wire: &RequestMatch, budget: &mut RouteBudget) -> Counted {
    use request_match::Match;
    budget.matches(1)?;
    match &wire.r#match {
        Some(Match::All(several) | Match::Any(several)) => {
            several.matches.iter().try_for_each(|part| request(part, budget))
        }
        Some(Match::Not(part)) => request(part, budget),
        Some(Match::Path(path)) => pattern(&path.regex, budget),
        Some(Match::Method(_)) | None => Ok(()),
    }
}

fn response(wire: &ResponseMatch, budget: &mut RouteBudget) -> Counted {
    use response_match::Match;
    budget.matches(1)?;
    match &wire.r#match {
        Some(Match::All(several) | Match::Any(several)) => {
            several.matches.iter().try_for_each(|part| response(part, budget))
        }
        Some(Match::Not(part)) => response(part, budget),
        Some(Match::Status(_)) | None => Ok(()),
    }
}

fn http_matches(found: &[HttpRouteMatch], budget: &mut RouteBudget) -> Counted {
    budget.matches(found.len())?;
    for wire in found {
        let kind = wire.path.as_ref().and_then(|path| path.kind.as_ref());
        if let Some(path_match::Kind::Regex(text)) = kind {
            pattern(text, budget)?;
        }
        headers(&wire.headers, budget)?;
        budget.parts(wire.query_params.len())?;
        for QueryParamMatch { value, .. } in &wire.query_params {
            if let Some(query_param_match::Value::Regex(text)) = value {
                pattern(text, budget)?;
            }
        }
    }
    Ok(())
}

fn grpc_matches(found: &[GrpcRouteMatch], budget: &mut RouteBudget) -> Counted {
    budget.matches(found.len())?;
    found.iter().try_for_each(|wire| headers(&wire.headers, budget))
}

fn headers(found: &[HeaderMatch], budget: &mut RouteBudget) -> Counted {
    budget.parts(found.len())?;
    for header in found {
        if let Some(header_match::Value::Regex(text)) = &header.value {
            pattern(text, budget)?;
        }
    }
    Ok(())
}

/// Counts an expression. An invalid one is left to the decoder, which names its field.
fn pattern(text: &str, budget: &mut RouteBudget) -> Counted {
    match budget.pattern(text) {
        Err(PatternFault::Exceeded(exceeded)) => Err(exceeded),
        Err(PatternFault::Invalid(_)) | Ok(()) => Ok(()),
    }
}
