//! Conversion of the filters of Gateway API routes into the model. What a proxy could not do to every request that the
//! rule matches is refused here, not found out by the requests.

use std::sync::Arc;

use destination_k8s::{
    keys,
    route::{self as k8s, BackendRef, GrpcRule, HttpRule, PathKind},
};
use http::uri::Authority;
use proxy_model::{
    Backend,
    route::{Filter, HeaderModifier, Mirror, PathModifier, Ratio, Redirect, Rewrite},
};

use crate::route::{AnyRoute, Unsupported, header_name, header_value};

const REDIRECT: &str = "RequestRedirect";
const REWRITE: &str = "URLRewrite";
const MIRROR: &str = "RequestMirror";

/// Resolves the backend of a mirror; none if it does not exist, and then nothing is copied.
type Resolve<'a> = &'a dyn Fn(&BackendRef) -> Result<Option<Arc<Backend>>, Unsupported>;

/// Refuses to mirror where there are no backends: at a Server.
pub(crate) const NO_MIRROR: Resolve<'_> = &|_| Err(server_error());

fn server_error() -> Unsupported {
    Unsupported::Filter(format!("{MIRROR} of a Server's route"))
}

/// Checks that a route with mirrors has no Server as a parent, at which they could not act.
pub(crate) fn mirrors_act(route: AnyRoute<'_>) -> Result<(), Unsupported> {
    let is_server = |parent: &k8s::ParentRef| parent.group == keys::POLICY_GROUP && parent.kind == "Server";
    if route.mirrors().is_empty() || !route.parents().iter().any(is_server) {
        return Ok(());
    }
    Err(server_error())
}

/// Converts the filters of a rule of an HTTPRoute.
pub(crate) fn http(rule: &HttpRule, resolve: Resolve<'_>) -> Result<Vec<Filter>, Unsupported> {
    compatible(rule)?;
    convert(&rule.filters, resolve)
}

/// Converts the filters of a rule of a GRPCRoute, which changes no URL.
pub(crate) fn grpc(rule: &GrpcRule, resolve: Resolve<'_>) -> Result<Vec<Filter>, Unsupported> {
    rule.backend_refs
        .iter()
        .try_for_each(|found| headers_only(&found.filters))?;
    headers_only(&rule.filters)?;
    convert(&rule.filters, resolve)
}

fn convert(filters: &[k8s::Filter], resolve: Resolve<'_>) -> Result<Vec<Filter>, Unsupported> {
    let one = |found: &k8s::Filter| match found.kind.as_str() {
        MIRROR => mirror(found, resolve).transpose(),
        _ => Some(filter(found)),
    };
    filters.iter().filter_map(one).collect()
}

/// Converts the filters of a backend, which its rule has checked.
pub(crate) fn backend(found: &BackendRef) -> Result<Vec<Filter>, Unsupported> {
    found.filters.iter().map(filter).collect()
}

fn headers_only(found: &[k8s::Filter]) -> Result<(), Unsupported> {
    let mut others = found.iter().filter(|found| [REDIRECT, REWRITE].contains(&&*found.kind));
    others.next().map_or(Ok(()), |found| {
        Err(Unsupported::Filter(format!("{} of a GRPCRoute", found.kind)))
    })
}

/// Checks the filters of a rule and its backends together, and against its matches.
fn compatible(rule: &HttpRule) -> Result<(), Unsupported> {
    let is = |kind: &'static str| move |found: &&k8s::Filter| found.kind == kind;
    let of = |filters: &[k8s::Filter], kind| filters.iter().filter(is(kind)).count();
    let own = &rule.filters;
    let (redirects, rewrites) = (of(own, REDIRECT), of(own, REWRITE));
    for theirs in rule.backend_refs.iter().map(|backend| &backend.filters) {
        let redirects = redirects + of(theirs, REDIRECT);
        one_change(redirects, rewrites + of(theirs, REWRITE))?;
    }
    one_change(redirects, rewrites)?;
    let is_prefix = |path: &k8s::PathMatch| path.kind == PathKind::PathPrefix;
    let by_prefix = rule
        .matches
        .iter()
        .all(|found| found.path.as_ref().is_none_or(is_prefix));
    let theirs = rule.backend_refs.iter().flat_map(|backend| &backend.filters);
    let replaced = own.iter().chain(theirs).find_map(replaces_prefix);
    replaced
        .filter(|_| !by_prefix)
        .map_or(Ok(()), |filter| Err(Unsupported::PrefixMatch(filter)))
}

/// Checks that a URL is changed once: a second change would not find what its author saw.
fn one_change(redirects: usize, rewrites: usize) -> Result<(), Unsupported> {
    match (redirects, rewrites) {
        (0, 0 | 1) | (1, 0) => Ok(()),
        _ => Err(Unsupported::Filters("one URLRewrite or one RequestRedirect")),
    }
}

/// Returns the kind of a filter that replaces the prefix of a match.
fn replaces_prefix(found: &k8s::Filter) -> Option<&'static str> {
    let (kind, path) = match found.kind.as_str() {
        REDIRECT => (REDIRECT, found.request_redirect.as_ref()?.path.as_ref()),
        REWRITE => (REWRITE, found.url_rewrite.as_ref()?.path.as_ref()),
        _ => return None,
    };
    matches!(path?, k8s::PathModifier::ReplacePrefixMatch { .. }).then_some(kind)
}

fn filter(found: &k8s::Filter) -> Result<Filter, Unsupported> {
    let lacks = || Unsupported::FilterSettings(found.kind.clone());
    match found.kind.as_str() {
        "RequestHeaderModifier" => {
            modifier(found.request_header_modifier.as_ref().ok_or_else(lacks)?).map(Filter::RequestHeaders)
        }
        "ResponseHeaderModifier" => {
            modifier(found.response_header_modifier.as_ref().ok_or_else(lacks)?).map(Filter::ResponseHeaders)
        }
        REDIRECT => redirect(found.request_redirect.as_ref().ok_or_else(lacks)?).map(Filter::Redirect),
        REWRITE => rewrite(found.url_rewrite.as_ref().ok_or_else(lacks)?).map(Filter::Rewrite),
        MIRROR => Err(Unsupported::Filter(format!("{MIRROR} of a backend"))),
        other => Err(Unsupported::Filter(other.to_owned())),
    }
}

/// Converts a mirror; none without a backend.
fn mirror(found: &k8s::Filter, resolve: Resolve<'_>) -> Result<Option<Filter>, Unsupported> {
    let lacks = || Unsupported::FilterSettings(found.kind.clone());
    let found = found.request_mirror.as_ref().ok_or_else(lacks)?;
    let ratio = share(found)?;
    let backend = &found.backend_ref;
    if backend.port.is_none() {
        return Err(Unsupported::FilterValue {
            filter: MIRROR,
            field: "backendRef",
            value: backend.name.clone(),
            fault: "which has no port",
        });
    }
    let mirror = |backend| Filter::Mirror(Mirror { backend, ratio });
    Ok(resolve(backend)?.map(mirror))
}

fn share(found: &k8s::RequestMirror) -> Result<Ratio, Unsupported> {
    let value = |field, value: String, fault| Unsupported::FilterValue {
        filter: MIRROR,
        field,
        value,
        fault,
    };
    match (found.percent, found.fraction) {
        (None, None) => Ok(Ratio::ALL),
        (Some(percent), None) if percent <= 100 => Ok(Ratio {
            numerator: percent,
            denominator: 100,
        }),
        (Some(percent), None) => Err(value("percent", percent.to_string(), "which is above 100")),
        (None, Some(k8s::Fraction { numerator, denominator })) if denominator > 0 && numerator <= denominator => {
            Ok(Ratio { numerator, denominator })
        }
        (None, Some(found)) => {
            let fraction = format!("{}/{}", found.numerator, found.denominator);
            Err(value("fraction", fraction, "which is not a share"))
        }
        (Some(percent), Some(_)) => Err(value("percent", percent.to_string(), "beside a fraction")),
    }
}

fn modifier(found: &k8s::HeaderModifier) -> Result<HeaderModifier, Unsupported> {
    let pair = |header: &k8s::HeaderValue| Ok((header_name(&header.name)?, header_value(&header.value)?));
    Ok(HeaderModifier {
        add: found.add.iter().map(pair).collect::<Result<_, Unsupported>>()?,
        set: found.set.iter().map(pair).collect::<Result<_, Unsupported>>()?,
        remove: found
            .remove
            .iter()
            .map(|name| header_name(name))
            .collect::<Result<_, _>>()?,
    })
}

fn redirect(found: &k8s::Redirect) -> Result<Redirect, Unsupported> {
    let value = |field, value: String, fault| Unsupported::FilterValue {
        filter: REDIRECT,
        field,
        value,
        fault,
    };
    let scheme = found.scheme.as_ref().map(|scheme| scheme.to_ascii_lowercase());
    if let Some(scheme) = scheme.as_ref().filter(|scheme| *scheme != "http" && *scheme != "https") {
        return Err(value("scheme", scheme.clone(), "which is neither http nor https"));
    }
    // The default that an API server would fill in.
    let status = found.status_code.unwrap_or(302);
    if !(300..=399).contains(&status) {
        return Err(value("statusCode", status.to_string(), "which does not redirect"));
    }
    Ok(Redirect {
        scheme,
        host: host(REDIRECT, found.hostname.as_ref())?,
        path: path(REDIRECT, found.path.as_ref())?,
        port: found.port,
        status: Some(status),
    })
}

fn rewrite(found: &k8s::UrlRewrite) -> Result<Rewrite, Unsupported> {
    Ok(Rewrite {
        host: host(REWRITE, found.hostname.as_ref())?,
        path: path(REWRITE, found.path.as_ref())?,
    })
}

/// Checks a host, which is without a port.
fn host(filter: &'static str, found: Option<&String>) -> Result<Option<String>, Unsupported> {
    let is_host = |name: &String| name.parse::<Authority>().is_ok_and(|parsed| parsed.host() == name);
    match found {
        Some(name) if !is_host(name) => Err(Unsupported::FilterValue {
            filter,
            field: "hostname",
            value: name.clone(),
            fault: "which is not the name of a host",
        }),
        found => Ok(found.cloned()),
    }
}

/// Checks a path, to which the request's query will be appended.
fn path(filter: &'static str, found: Option<&k8s::PathModifier>) -> Result<Option<PathModifier>, Unsupported> {
    let Some(found) = found else { return Ok(None) };
    let (field, value, path) = match found {
        k8s::PathModifier::ReplaceFullPath { value } => ("replaceFullPath", value, PathModifier::Full(value.clone())),
        k8s::PathModifier::ReplacePrefixMatch { value } => {
            ("replacePrefixMatch", value, PathModifier::Prefix(value.clone()))
        }
    };
    // No prefix is left where it is replaced by nothing.
    let is_nothing = value.is_empty() && matches!(path, PathModifier::Prefix(_));
    let is_path = value.starts_with('/') && !value.contains(['?', '#']) && value.parse::<http::Uri>().is_ok();
    if is_path || is_nothing {
        return Ok(Some(path));
    }
    Err(Unsupported::FilterValue {
        filter,
        field,
        value: value.clone(),
        fault: "which is not a path",
    })
}

#[cfg(test)]
mod tests;
