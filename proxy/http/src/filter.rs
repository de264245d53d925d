//! Route filters of inbound and outbound: applied to a request before it is forwarded, and to a response before it is
//! returned. A filter that answers by itself ends in a [`Rejection`].

use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode, Uri,
    uri::{Authority, PathAndQuery, Scheme},
};
use proxy_model::route::{Filter, HeaderModifier, PathModifier, Ratio, Redirect};

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
            Filter::Redirect(redirect) => return Err(redirected(redirect, request, prefix)),
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

fn redirected<B>(redirect: &Redirect, request: &Request<B>, prefix: Option<&str>) -> Rejection {
    let Some(location) = location(redirect, request, prefix) else {
        return invalid("invalid redirect location".to_owned());
    };
    let status = redirect.status.and_then(|status| StatusCode::from_u16(status).ok());
    let status = status.unwrap_or(StatusCode::MOVED_PERMANENTLY);
    let mut rejection = Rejection::new(status, GrpcCode::NOT_FOUND, "redirected");
    rejection.location = Some(location);
    rejection
}

fn location<B>(redirect: &Redirect, request: &Request<B>, prefix: Option<&str>) -> Option<HeaderValue> {
    let uri = request.uri();
    let scheme = match &redirect.scheme {
        Some(scheme) => Scheme::try_from(scheme.as_str()).ok()?,
        None => uri.scheme().cloned().unwrap_or(Scheme::HTTP),
    };
    let current: Option<Authority> = h1::authority(request).and_then(|authority| authority.parse().ok());
    let host = redirect.host.as_deref().or(current.as_ref().map(Authority::host))?;
    // A port belongs to its host and scheme: a redirect that changes either drops it.
    let kept = redirect.host.is_none() && redirect.scheme.is_none();
    let port = redirect.port.or_else(|| current.as_ref().filter(|_| kept)?.port_u16());
    let is_default = matches!((scheme.as_str(), port), ("http", Some(80)) | ("https", Some(443)));
    let authority = match port.filter(|_| !is_default) {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let path = match &redirect.path {
        None => uri.path().to_owned(),
        Some(PathModifier::Full(path)) => path.clone(),
        Some(PathModifier::Prefix(new)) => replace_prefix(uri.path(), prefix?, new)?,
    };
    let path = match uri.query() {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
        None => PathAndQuery::try_from(path),
    };
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query(path.ok()?)
        .build()
        .ok()?;
    HeaderValue::from_str(&uri.to_string()).ok()
}

fn replace_prefix(path: &str, prefix: &str, new: &str) -> Option<String> {
    let rest = path.strip_prefix(prefix.trim_end_matches('/'))?.trim_start_matches('/');
    let new = new.trim_end_matches('/');
    Some(if rest.is_empty() && !new.is_empty() {
        new.to_owned()
    } else {
        format!("{new}/{rest}")
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
        let path = PathModifier::Prefix("/new".into());
        let moved = Redirect {
            path: Some(path),
            status: Some(302),
            port: Some(81),
            ..Redirect::default()
        };
        assert_eq!(
            to(moved, "/old/x", Some("/old")),
            (StatusCode::FOUND, "http://web:81/new/x".into())
        );
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
