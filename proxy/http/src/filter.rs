//! Route filters of inbound and outbound: applied to a request before it is forwarded, and to a response before it is
//! returned. A filter that answers by itself ends in a [`Rejection`].

use std::borrow::Cow;

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::HOST,
    uri::{Authority, PathAndQuery, Scheme},
};
use proxy_model::route::{Filter, HeaderModifier, PathModifier, Ratio, Redirect, Rewrite};

use crate::{
    errors::{GrpcCode, Rejection},
    h1,
};

/// Applies filters to a request, in order; `prefix` is the path prefix that the route matched, if any.
pub fn request<B>(filters: &[Filter], request: &mut Request<B>, prefix: Option<&str>) -> Result<(), Rejection> {
    for filter in filters {
        match filter {
            Filter::RequestHeaders(modifier) => modify(request.headers_mut(), modifier),
            // A mirror sees the request once all filters have.
            Filter::ResponseHeaders(_) | Filter::Mirror(_) => {}
            Filter::FailHttp { status, message, ratio } if is_drawn(*ratio) => {
                let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                return Err(Rejection::new(status, GrpcCode::FAILED_PRECONDITION, message.clone()));
            }
            Filter::FailGrpc { code, message, ratio } if is_drawn(*ratio) => {
                return Err(Rejection::new(StatusCode::OK, GrpcCode(*code), message.clone()));
            }
            Filter::FailHttp { .. } | Filter::FailGrpc { .. } => {}
            Filter::Redirect(redirect) => {
                if let Some(rejection) = redirected(redirect, request, prefix) {
                    return Err(rejection);
                }
            }
            Filter::Rewrite(rewrite) => {
                if rewritten(rewrite, request, prefix).is_none() {
                    return Err(invalid("invalid rewrite".to_owned()));
                }
            }
            Filter::Forbidden => {
                return Err(Rejection::new(
                    StatusCode::FORBIDDEN,
                    GrpcCode::PERMISSION_DENIED,
                    "forbidden",
                ));
            }
            Filter::Invalid(reason) => return Err(invalid(format!("invalid policy: {reason}"))),
        }
    }
    Ok(())
}

/// Returns the authority that filters give to a request.
pub fn rewritten_authority(filters: &[Filter]) -> Option<Authority> {
    let host = filters.iter().rev().find_map(|filter| match filter {
        Filter::Rewrite(rewrite) => rewrite.host.as_deref(),
        _ => None,
    })?;
    Authority::try_from(host).ok()
}

/// Applies filters to a response.
pub fn response<B>(filters: &[Filter], response: &mut Response<B>) {
    for filter in filters {
        if let Filter::ResponseHeaders(modifier) = filter {
            modify(response.headers_mut(), modifier);
        }
    }
}

fn invalid(message: String) -> Rejection {
    Rejection::new(StatusCode::INTERNAL_SERVER_ERROR, GrpcCode::INTERNAL, message).closing()
}

/// Draws whether a request is among a share.
pub fn is_drawn(ratio: Ratio) -> bool {
    ratio.numerator >= ratio.denominator || fastrand::u32(0..ratio.denominator.max(1)) < ratio.numerator
}

fn modify(headers: &mut HeaderMap, modifier: &HeaderModifier) {
    for (name, value) in &modifier.add {
        headers.append(name, value.clone());
    }
    for (name, value) in &modifier.set {
        headers.insert(name, value.clone());
    }
    for name in &modifier.remove {
        headers.remove(name);
    }
}

/// Returns the answer of a redirect; none for a request that is at its location already and would loop.
fn redirected<B>(redirect: &Redirect, request: &Request<B>, prefix: Option<&str>) -> Option<Rejection> {
    let found = location(redirect, request, prefix);
    let Some((uri, location)) = found.and_then(|uri| {
        let value = HeaderValue::from_str(&uri.to_string()).ok()?;
        Some((uri, value))
    }) else {
        return Some(invalid("invalid redirect location".to_owned()));
    };
    if is_at(request, &uri) {
        return None;
    }
    let status = redirect.status.and_then(|status| StatusCode::from_u16(status).ok());
    let status = status.unwrap_or(StatusCode::MOVED_PERMANENTLY);
    let mut rejection = Rejection::new(status, GrpcCode::NOT_FOUND, "redirected");
    rejection.location = Some(location);
    Some(rejection)
}

fn location<B>(redirect: &Redirect, request: &Request<B>, prefix: Option<&str>) -> Option<Uri> {
    let uri = request.uri();
    let scheme = match &redirect.scheme {
        Some(scheme) => Scheme::try_from(scheme.as_str()).ok()?,
        None => uri.scheme().cloned().unwrap_or(Scheme::HTTP),
    };
    let current: Option<Authority> = h1::authority(request).and_then(|authority| authority.parse().ok());
    let host = redirect.host.as_deref().or(current.as_ref().map(Authority::host))?;
    // A scheme has its own port; another host is at the port that this one was asked at.
    let kept = redirect.scheme.is_none();
    let port = redirect.port.or_else(|| current.as_ref().filter(|_| kept)?.port_u16());
    let authority = match port.filter(|port| Some(*port) != default_port(&scheme)) {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let path = match &redirect.path {
        None => PathAndQuery::try_from(uri.path_and_query().map_or("/", PathAndQuery::as_str)).ok()?,
        Some(path) => replace_path(path, uri, prefix)?,
    };
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(path);
    uri.build().ok()
}

/// Returns true if a request was sent to `location`.
fn is_at<B>(request: &Request<B>, location: &Uri) -> bool {
    let uri = request.uri();
    let scheme = uri.scheme().unwrap_or(&Scheme::HTTP);
    if location.scheme() != Some(scheme) || location.path() != uri.path() || location.query() != uri.query() {
        return false;
    }
    let authority = h1::authority(request).and_then(|authority| authority.parse::<Authority>().ok());
    let port = |authority: &Authority| authority.port_u16().or_else(|| default_port(scheme));
    authority.zip(location.authority()).is_some_and(|(current, found)| {
        current.host().eq_ignore_ascii_case(found.host()) && port(&current) == port(found)
    })
}

fn default_port(scheme: &Scheme) -> Option<u16> {
    match scheme.as_str() {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// Changes the path and the host of a request; none if they cannot be those of one. The host is the whole authority.
fn rewritten<B>(rewrite: &Rewrite, request: &mut Request<B>, prefix: Option<&str>) -> Option<()> {
    if request.method() == Method::CONNECT && request.uri().scheme().is_none() {
        // Its target is where its tunnel ends.
        return Some(());
    }
    // `OPTIONS *` has no path.
    if let Some(path) = &rewrite.path
        && request.uri().path().starts_with('/')
    {
        let path = replace_path(path, request.uri(), prefix)?;
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.path_and_query = Some(path);
        *request.uri_mut() = Uri::from_parts(parts).ok()?;
    }
    if let Some(host) = &rewrite.host {
        let authority = Authority::try_from(host.as_str()).ok()?;
        let in_target = request.uri().authority().is_some();
        // HTTP/1 has the header always, HTTP/2 rarely.
        if !in_target || request.version() != Version::HTTP_2 || request.headers().contains_key(HOST) {
            let value = HeaderValue::from_str(host).ok()?;
            request.headers_mut().insert(HOST, value);
        }
        if in_target {
            h1::set_absolute_form(request.uri_mut(), authority);
        }
    }
    Some(())
}

/// Returns the changed path with the query of `uri`.
fn replace_path(modifier: &PathModifier, uri: &Uri, prefix: Option<&str>) -> Option<PathAndQuery> {
    let path = match modifier {
        PathModifier::Full(path) => Cow::from(path),
        PathModifier::Prefix(new) => replace_prefix(uri.path(), prefix?, new)?.into(),
    };
    let path = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.into_owned(),
    };
    PathAndQuery::try_from(path).ok()
}

/// Replaces a prefix of whole segments. What follows it stays as it is, with its slash.
fn replace_prefix(path: &str, prefix: &str, new: &str) -> Option<String> {
    let rest = path.strip_prefix(prefix.strip_suffix('/').unwrap_or(prefix))?;
    let new = new.trim_end_matches('/');
    Some(match rest.strip_prefix('/') {
        Some(rest) => format!("{new}/{rest}"),
        None if !rest.is_empty() => return None,
        None if new.is_empty() => "/".to_owned(),
        None => new.to_owned(),
    })
}

#[cfg(test)]
mod tests;
