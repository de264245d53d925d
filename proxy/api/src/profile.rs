//! `Destination.GetProfile`: the legacy, per-authority form of routes and splits.

use std::sync::Arc;

use linkerd2_proxy_api::destination::{
    DestinationProfile, HttpStatusRange, PathMatch, RequestMatch as WireRequest, ResponseClass as WireClass,
    ResponseMatch as WireResponse, RetryBudget as WireBudget, Route, WeightedDst, request_match, response_match,
};
use proxy_model::{
    Profile, limits,
    profile::{ProfileRoute, RequestMatch, ResponseClass, ResponseMatch, RetryBudget, Target},
    route::Pattern,
};

use crate::{
    Error, Result, budget,
    destination::{decode_endpoint, encode_endpoint},
    error::{each, optional},
    meta::{decode_meta, encode_meta},
    net::{decode_duration, decode_labels, decode_u16, encode_duration, encode_labels},
    route::{decode_method, decode_pattern},
};

const DEPTH: usize = limits::MATCH_DEPTH.value;

/// Decodes one message of `Destination.GetProfile`.
pub fn decode_profile(wire: DestinationProfile) -> Result<Profile> {
    budget::profile(&wire)?;
    Ok(Profile {
        fully_qualified_name: wire.fully_qualified_name,
        opaque_protocol: wire.opaque_protocol,
        routes: each("routes", wire.routes, decode_route)?,
        retry_budget: optional("retry_budget", wire.retry_budget, decode_budget)?,
        targets: each("dst_overrides", wire.dst_overrides, decode_target)?,
        endpoint: optional("endpoint", wire.endpoint, decode_endpoint)?.map(Arc::new),
        parent: optional("parent_ref", wire.parent_ref, decode_meta)?,
        profile: optional("profile_ref", wire.profile_ref, decode_meta)?,
    })
}

/// Encodes one message of `Destination.GetProfile`. Budgets of single routes are an extension.
pub fn encode_profile(profile: &Profile) -> DestinationProfile {
    DestinationProfile {
        fully_qualified_name: profile.fully_qualified_name.clone(),
        opaque_protocol: profile.opaque_protocol,
        routes: profile.routes.iter().map(encode_route).collect(),
        retry_budget: profile.retry_budget.as_ref().map(encode_budget),
        dst_overrides: profile.targets.iter().map(encode_target).collect(),
        endpoint: profile.endpoint.as_deref().map(encode_endpoint),
        parent_ref: profile.parent.as_ref().map(encode_meta),
        profile_ref: profile.profile.as_ref().map(encode_meta),
    }
}

pub(crate) fn decode_budget(wire: WireBudget) -> Result<RetryBudget> {
    let ttl = optional("ttl", wire.ttl, decode_duration)?;
    if wire.retry_ratio.is_nan() {
        return Err(Error::invalid("retry_ratio", "is not a number"));
    }
    Ok(RetryBudget {
        ratio: wire.retry_ratio,
        min_per_second: wire.min_retries_per_second,
        ttl,
    })
}

pub(crate) fn encode_budget(budget: &RetryBudget) -> WireBudget {
    WireBudget {
        retry_ratio: budget.ratio,
        min_retries_per_second: budget.min_per_second,
        ttl: budget.ttl.map(encode_duration),
    }
}

pub(crate) fn decode_target(wire: WeightedDst) -> Result<Target> {
    Ok(Target {
        authority: wire
            .authority
            .parse()
            .map_err(|error| Error::invalid("authority", error))?,
        weight: wire.weight,
        backend: optional("backend_ref", wire.backend_ref, decode_meta)?,
    })
}

pub(crate) fn encode_target(target: &Target) -> WeightedDst {
    let backend_ref = target.backend.as_ref().map(encode_meta);
    WeightedDst {
        authority: target.authority.to_string(),
        weight: target.weight,
        backend_ref,
    }
}

fn decode_route(wire: Route) -> Result<ProfileRoute> {
    Ok(ProfileRoute {
        condition: optional("condition", wire.condition, |wire| decode_request_match(wire, DEPTH))?,
        response_classes: each("response_classes", wire.response_classes, decode_class)?,
        labels: Arc::new(decode_labels(wire.metrics_labels)),
        is_retryable: wire.is_retryable,
        timeout: optional("timeout", wire.timeout, decode_duration)?,
        retry_budget: None,
    })
}

fn encode_route(route: &ProfileRoute) -> Route {
    Route {
        condition: route.condition.as_ref().map(encode_request_match),
        response_classes: route.response_classes.iter().map(encode_class).collect(),
        metrics_labels: encode_labels(&route.labels),
        is_retryable: route.is_retryable,
        timeout: route.timeout.map(encode_duration),
    }
}

fn decode_class(wire: WireClass) -> Result<ResponseClass> {
    let condition = optional("condition", wire.condition, |wire| decode_response_match(wire, DEPTH))?;
    Ok(ResponseClass {
        condition,
        is_failure: wire.is_failure,
    })
}

fn encode_class(class: &ResponseClass) -> WireClass {
    WireClass {
        condition: class.condition.as_ref().map(encode_response_match),
        is_failure: class.is_failure,
    }
}

fn deeper(depth: usize) -> Result<usize> {
    depth
        .checked_sub(1)
        .ok_or_else(|| Error::invalid("match", format_args!("is nested more than {DEPTH} deep")))
}

fn decode_request_match(wire: WireRequest, depth: usize) -> Result<RequestMatch> {
    use request_match::{Match, Seq};
    let depth = deeper(depth)?;
    let seq = |seq: Seq| each("matches", seq.matches, |wire| decode_request_match(wire, depth));
    match wire.r#match.ok_or_else(|| Error::missing("match"))? {
        Match::All(all) => seq(all).map(RequestMatch::All),
        Match::Any(any) => seq(any).map(RequestMatch::Any),
        Match::Not(not) => decode_request_match(*not, depth).map(|not| RequestMatch::Not(Box::new(not))),
        Match::Path(path) => decode_pattern("path.regex", &path.regex).map(RequestMatch::Path),
        Match::Method(method) => decode_method(method).map(RequestMatch::Method),
    }
}

fn encode_request_match(condition: &RequestMatch) -> WireRequest {
    use request_match::{Match, Seq};
    let seq = |matches: &[RequestMatch]| Seq {
        matches: matches.iter().map(encode_request_match).collect(),
    };
    let path = |pattern: &Pattern| PathMatch {
        regex: pattern.as_str().to_owned(),
    };
    WireRequest {
        r#match: Some(match condition {
            RequestMatch::All(all) => Match::All(seq(all)),
            RequestMatch::Any(any) => Match::Any(seq(any)),
            RequestMatch::Not(not) => Match::Not(Box::new(encode_request_match(not))),
            RequestMatch::Path(pattern) => Match::Path(path(pattern)),
            RequestMatch::Method(method) => Match::Method(method.clone().into()),
        }),
    }
}

fn decode_response_match(wire: WireResponse, depth: usize) -> Result<ResponseMatch> {
    use response_match::{Match, Seq};
    let depth = deeper(depth)?;
    let seq = |seq: Seq| each("matches", seq.matches, |wire| decode_response_match(wire, depth));
    match wire.r#match.ok_or_else(|| Error::missing("match"))? {
        Match::All(all) => seq(all).map(ResponseMatch::All),
        Match::Any(any) => seq(any).map(ResponseMatch::Any),
        Match::Not(not) => decode_response_match(*not, depth).map(|not| ResponseMatch::Not(Box::new(not))),
        Match::Status(range) => {
            let (min, max) = (
                decode_u16("status.min", range.min)?,
                decode_u16("status.max", range.max)?,
            );
            Ok(ResponseMatch::Status { min, max })
        }
    }
}

fn encode_response_match(condition: &ResponseMatch) -> WireResponse {
    use response_match::{Match, Seq};
    let seq = |matches: &[ResponseMatch]| Seq {
        matches: matches.iter().map(encode_response_match).collect(),
    };
    WireResponse {
        r#match: Some(match condition {
            ResponseMatch::All(all) => Match::All(seq(all)),
            ResponseMatch::Any(any) => Match::Any(seq(any)),
            ResponseMatch::Not(not) => Match::Not(Box::new(encode_response_match(not))),
            ResponseMatch::Status { min, max } => Match::Status(HttpStatusRange {
                min: u32::from(*min),
                max: u32::from(*max),
            }),
        }),
    }
}
