//! SMI's access control by itself: what TrafficTargets and HTTPRouteGroups say, and what is wrong with them. What they
//! make of a port is in `inbound/access.rs`.

use destination_k8s::{
    HttpRouteGroup, TrafficTarget,
    access::{SERVICE_ACCOUNT, TargetRule},
    specs::GroupMatch,
};
use http::Method;
use proxy_model::{
    budget::RouteBudget,
    route::{HeaderMatch, HeaderValueMatch, HttpMatch, PathMatch, Pattern},
};

pub(crate) use crate::access_fault::Fault;
use crate::route::{Unsupported, header_name};

/// A permitted kind of traffic.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum RuleKind {
    Http,
    Tcp,
}

/// Returns the kind of a target's rule.
pub(crate) fn rule_kind(rule: &TargetRule) -> Result<RuleKind, Fault> {
    let name = || rule.name.clone();
    match rule.kind.as_str() {
        "HTTPRouteGroup" => Ok(RuleKind::Http),
        "TCPRoute" if !rule.matches.is_empty() => Err(Fault::Matches(name())),
        "TCPRoute" => Ok(RuleKind::Tcp),
        "UDPRoute" => Err(Fault::Udp(name())),
        other => Err(Fault::Rule {
            kind: other.to_owned(),
            name: name(),
        }),
    }
}

/// Checks a target alone.
pub(crate) fn check_target(target: &TrafficTarget) -> Result<(), Fault> {
    let spec = &target.spec;
    if spec.sources.is_empty() {
        return Err(Fault::Sources);
    }
    if spec.rules.is_empty() {
        return Err(Fault::Rules);
    }
    let mut budget = RouteBudget::default();
    budget.parts(spec.sources.len())?;
    budget.routes(spec.rules.len())?;
    budget.matches(spec.rules.iter().map(|rule| rule.matches.len()).sum())?;
    if let Some(other) = spec.sources.iter().find(|source| source.kind != SERVICE_ACCOUNT) {
        return Err(Fault::Source {
            kind: other.kind.clone(),
            name: other.name.clone(),
        });
    }
    spec.rules.iter().try_for_each(|rule| rule_kind(rule).map(|_| ()))
}

/// Methods that SMI names.
const METHODS: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::PUT,
    Method::POST,
    Method::DELETE,
    Method::CONNECT,
    Method::OPTIONS,
    Method::TRACE,
    Method::PATCH,
];

/// Returns the methods of a match; none stands for all.
fn methods(found: &GroupMatch) -> Result<Vec<Option<Method>>, Unsupported> {
    if found.methods.is_empty() || found.methods.iter().any(|method| method == "*") {
        return Ok(vec![None]);
    }
    let known = |name: &String| METHODS.into_iter().find(|method| method.as_str() == name);
    let method = |name| known(name).ok_or_else(|| Unsupported::Method(name.clone()));
    found.methods.iter().map(|name| method(name).map(Some)).collect()
}

/// Checks a group alone; `pattern` counts an expression.
pub(crate) fn check_group(
    group: &HttpRouteGroup,
    budget: &mut RouteBudget,
    mut pattern: impl FnMut(&str, &mut RouteBudget) -> Result<(), Unsupported>,
) -> Result<(), Unsupported> {
    for found in &group.spec.matches {
        budget.parts(found.headers.len())?;
        for name in found.headers.keys() {
            if header_name(name)? == http::header::HOST {
                return Err(Unsupported::Host);
            }
        }
        // Each method is a condition of its own, with the same expressions.
        for _ in methods(found)? {
            budget.matches(1)?;
            let mut texts = found.path_regex.iter().chain(found.headers.values());
            texts.try_for_each(|text| pattern(text, budget))?;
        }
    }
    Ok(())
}

/// Converts a match of a group that has been checked. Its expressions hold for the whole path and value, as those of
/// routes do.
pub(crate) fn http_matches(found: &GroupMatch) -> Result<Vec<HttpMatch>, Unsupported> {
    let path = found
        .path_regex
        .as_deref()
        .map(Pattern::uncompiled)
        .map(PathMatch::Regex);
    let header = |(name, value): (&String, &String)| {
        Ok(HeaderMatch {
            name: header_name(name)?,
            value: HeaderValueMatch::Regex(Pattern::uncompiled(value)),
        })
    };
    let headers: Vec<_> = found.headers.iter().map(header).collect::<Result<_, Unsupported>>()?;
    let condition = |method| HttpMatch {
        path: path.clone(),
        headers: headers.clone(),
        query: vec![],
        method,
    };
    Ok(methods(found)?.into_iter().map(condition).collect())
}
