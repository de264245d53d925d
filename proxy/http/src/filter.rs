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
            Filter::ResponseHeaders(_) => {}
            Filter::FailHttp { status, message, ratio } if should_fail(*ratio) => {
                let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                return Err(Rejection::new(status, GrpcCode::FAILED_PRECONDITION, message.clone()));
            }
            Filter::FailGrpc { code, message, ratio } if should_fail(*ratio) => {
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

fn should_fail(ratio: Ratio) -> bool {
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
mod tests {
    use super::*;

    fn to(redirect: Redirect, target: &str, prefix: Option<&str>) -> (StatusCode, String) {
        let mut request_ = Request::builder()
            .uri(target)
            .header("host", "web:8080")
            .body(())
            .expect("valid");
        let rejection = request(&[Filter::Redirect(redirect)], &mut request_, prefix).expect_err("it redirects");
        let location = rejection.location.expect("a location");
        (rejection.status, location.to_str().expect("text").to_owned())
    }

    fn path(modifier: PathModifier) -> Redirect {
        Redirect {
            path: Some(modifier),
            ..Redirect::default()
        }
    }

    #[test]
    fn redirect_replaces_only_the_configured_parts() {
        let https = Redirect {
            scheme: Some("https".into()),
            ..Redirect::default()
        };
        assert_eq!(
            to(https, "/a?b=c", None),
            (StatusCode::MOVED_PERMANENTLY, "https://web/a?b=c".into())
        );
        let moved = Redirect {
            status: Some(302),
            port: Some(81),
            ..path(PathModifier::Prefix("/new".into()))
        };
        assert_eq!(
            to(moved, "/old/x", Some("/old")),
            (StatusCode::FOUND, "http://web:81/new/x".into())
        );
        let elsewhere = Redirect {
            host: Some("api".into()),
            ..Redirect::default()
        };
        let (_, location) = to(elsewhere, "/a", None);
        assert_eq!(location, "http://api:8080/a", "it was asked at that port");
    }

    #[test]
    fn redirect_to_the_request_itself_passes() {
        let passes = |redirect: &Redirect, target: &str, host: &str| {
            let request_ = Request::builder().uri(target).header("host", host).body(());
            let filter = Filter::Redirect(redirect.clone());
            request(&[filter], &mut request_.expect("valid"), Some("/")).is_ok()
        };
        let login = path(PathModifier::Full("/login".into()));
        assert!(passes(&login, "/login?next=a", "web:8080"));
        assert!(!passes(&login, "/login/", "web:8080"));
        let same = Redirect {
            scheme: Some("http".into()),
            host: Some("WEB".into()),
            port: Some(80),
            ..Redirect::default()
        };
        assert!(passes(&same, "/a", "web") && passes(&same, "/a", "web:80"));
        assert!(!passes(&same, "/a", "web:8080") && !passes(&same, "/a", "api"));
        assert!(passes(&same, "http://web/a", "web") && !passes(&same, "https://web/a", "web"));
    }

    fn rewritten_to(rewrite: &Rewrite, version: Version, target: &str, prefix: Option<&str>) -> Option<String> {
        let mut head = Request::builder().version(version).uri(target);
        if version != Version::HTTP_2 {
            head = head.header("host", "web:8080");
        }
        let mut request_ = head.body(()).expect("valid");
        request(&[Filter::Rewrite(rewrite.clone())], &mut request_, prefix).ok()?;
        let host = request_
            .headers()
            .get("host")
            .map_or("-", |host| host.to_str().expect("text"));
        Some(format!("{} {host}", request_.uri()))
    }

    #[test]
    fn rewrite_replaces_the_prefix_by_segments() {
        // The table of the Gateway API, and what it leaves open.
        for (path, prefix, new, expected) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/foo?a=b", "/foo/", "/xyz/", "/xyz?a=b"),
            ("/bar", "/", "/xyz", "/xyz/bar"),
            ("/foo//bar", "/foo", "/xyz", "/xyz//bar"),
        ] {
            let rewrite = Rewrite {
                path: Some(PathModifier::Prefix(new.into())),
                host: None,
            };
            let found = rewritten_to(&rewrite, Version::HTTP_11, path, Some(prefix));
            assert_eq!(found, Some(format!("{expected} web:8080")), "{path} {prefix} {new}");
        }
        let rewrite = Rewrite {
            path: Some(PathModifier::Prefix("/xyz".into())),
            host: None,
        };
        assert_eq!(
            rewritten_to(&rewrite, Version::HTTP_11, "/foo", None),
            None,
            "no prefix matched"
        );
        assert_eq!(rewritten_to(&rewrite, Version::HTTP_11, "/food", Some("/foo")), None);
        let same = rewritten_to(&rewrite, Version::HTTP_11, "*", Some("/"));
        assert_eq!(same.as_deref(), Some("* web:8080"), "it has no path");
    }

    #[test]
    fn rewrite_replaces_the_host_wherever_it_stands() {
        let rewrite = Rewrite {
            host: Some("api.example".into()),
            path: Some(PathModifier::Full("/one".into())),
        };
        for (version, target, expected) in [
            (Version::HTTP_11, "/a?b", "/one?b api.example"),
            (
                Version::HTTP_11,
                "http://web:8080/a",
                "http://api.example/one api.example",
            ),
            (Version::HTTP_2, "https://web/a", "https://api.example/one -"),
            (Version::HTTP_2, "/a", "/one api.example"),
        ] {
            let found = rewritten_to(&rewrite, version, target, None);
            assert_eq!(found.as_deref(), Some(expected), "{target}");
        }
        let mut tunnel = Request::connect("web:8080").body(()).expect("valid");
        request(&[Filter::Rewrite(rewrite)], &mut tunnel, None).expect("it passes");
        assert_eq!(tunnel.uri().to_string(), "web:8080");
    }

    #[test]
    fn modifies_headers() {
        let pair = |name: &'static str, value| (http::HeaderName::from_static(name), HeaderValue::from_static(value));
        let modifier = HeaderModifier {
            add: vec![pair("a", "2")],
            set: vec![pair("b", "2")],
            remove: vec![http::HeaderName::from_static("c")],
        };
        let mut request_ = Request::builder()
            .header("a", "1")
            .header("b", "1")
            .header("c", "1")
            .body(())
            .expect("valid");
        request(&[Filter::RequestHeaders(modifier)], &mut request_, None).expect("it passes");
        let headers = request_.headers();
        assert_eq!(
            (
                headers.get_all("a").iter().count(),
                headers["b"].as_bytes(),
                headers.len()
            ),
            (2, &b"2"[..], 3)
        );
    }

    #[test]
    fn injects_failures_by_ratio() {
        let fail = |ratio| {
            [Filter::FailHttp {
                status: 418,
                message: "tea".into(),
                ratio,
            }]
        };
        let never = Ratio {
            numerator: 0,
            denominator: 10,
        };
        assert!(request(&fail(never), &mut Request::new(()), None).is_ok());
        let rejection = request(&fail(Ratio::ALL), &mut Request::new(()), None).expect_err("always");
        assert_eq!(
            (rejection.status, &*rejection.message),
            (StatusCode::IM_A_TEAPOT, "tea")
        );
    }
}
