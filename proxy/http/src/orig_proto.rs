//! HTTP/1 carried in HTTP/2 between two proxies, marked by `l5d-orig-proto`.
//!
//! ```text
//! outbound: upgrade_request   --HTTP/2-->  inbound: downgrade_request  --HTTP/1-->  application
//! outbound: downgrade_response <-HTTP/2--  inbound: upgrade_response   <-HTTP/1--
//! ```

use http::{
    HeaderMap, HeaderValue, Request, Response, Version,
    header::{HOST, TRANSFER_ENCODING},
    uri::Authority,
};

use crate::{
    h1::{self, Form},
    headers::{HeaderFlags, L5D_ORIG_PROTO},
};

const ABSOLUTE: &str = "absolute-form";

/// Original form of an HTTP/1 request carried in HTTP/2.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct OrigProto {
    /// Original version.
    pub version: Version,
    /// The target was in absolute form.
    pub absolute: bool,
}

/// Outbound: converts an HTTP/1 request to HTTP/2. `form` is the result of [`h1::normalise`], `authority` is that of
/// the target (HTTP/2 requires one). `host` is kept.
pub fn upgrade_request<B>(request: &mut Request<B>, form: Form, authority: Authority) -> OrigProto {
    let version = request.version();
    let mark = match (version == Version::HTTP_10, form.absolute) {
        (true, true) => HeaderValue::from_static("HTTP/1.0; absolute-form"),
        (true, false) => HeaderValue::from_static("HTTP/1.0"),
        (false, true) => HeaderValue::from_static("HTTP/1.1; absolute-form"),
        (false, false) => HeaderValue::from_static("HTTP/1.1"),
    };
    remove_transfer_encoding(request.headers_mut());
    request.headers_mut().insert(L5D_ORIG_PROTO, mark);
    h1::set_absolute_form(request.uri_mut(), authority);
    *request.version_mut() = Version::HTTP_2;
    OrigProto {
        version,
        absolute: form.absolute,
    }
}

/// Outbound: restores the HTTP/1 version of a response.
pub fn downgrade_response<B>(response: &mut Response<B>, request: OrigProto) {
    let version = match response.headers_mut().remove(L5D_ORIG_PROTO) {
        Some(value) if value == "HTTP/1.1" => Version::HTTP_11,
        Some(value) if value == "HTTP/1.0" => Version::HTTP_10,
        _ => request.version,
    };
    *response.version_mut() = version;
}

/// Returns true for a request of HTTP/1 in absolute form that HTTP/2 carries.
pub fn is_absolute<B>(request: &Request<B>) -> bool {
    let mark = request.headers().get(L5D_ORIG_PROTO);
    mark.and_then(|mark| mark.to_str().ok())
        .is_some_and(|mark| mark.starts_with("HTTP/1") && mark.contains(ABSOLUTE))
}

/// Inbound: restores the HTTP/1 request from an HTTP/2 request that carries the mark. Returns none for native HTTP/2.
pub fn downgrade_request<B>(request: &mut Request<B>) -> Option<OrigProto> {
    if request.version() != Version::HTTP_2 {
        return None;
    }
    let mark = request.headers_mut().remove(L5D_ORIG_PROTO)?;
    let mark = mark.to_str().unwrap_or("");
    let version = match mark {
        mark if mark.starts_with("HTTP/1.0") => Version::HTTP_10,
        mark if mark.starts_with("HTTP/1.1") => Version::HTTP_11,
        // Unknown mark: the header is removed and the request stays as it is.
        _ => return None,
    };
    let absolute = mark.contains(ABSOLUTE);
    *request.version_mut() = version;
    if absolute {
        set_host(request);
    } else {
        h1::set_origin_form(request.uri_mut());
    }
    join_cookies(request.headers_mut());
    Some(OrigProto { version, absolute })
}

/// Inbound: converts an application's HTTP/1 response to HTTP/2.
pub fn upgrade_response<B>(response: &mut Response<B>) {
    let mark = match response.version() {
        Version::HTTP_10 => HeaderValue::from_static("HTTP/1.0"),
        _ => HeaderValue::from_static("HTTP/1.1"),
    };
    remove_transfer_encoding(response.headers_mut());
    response.headers_mut().insert(L5D_ORIG_PROTO, mark);
    *response.version_mut() = Version::HTTP_2;
}

/// HTTP/2 has its own framing.
fn remove_transfer_encoding(headers: &mut HeaderMap) {
    if HeaderFlags::from_headers(headers).has(HeaderFlags::TRANSFER_ENCODING) {
        headers.remove(TRANSFER_ENCODING);
    }
}

fn set_host<B>(request: &mut Request<B>) {
    let host = request
        .uri()
        .authority()
        .and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    if let Some(host) = host {
        request.headers_mut().insert(HOST, host);
    }
}

/// Joins `cookie` headers, which HTTP/2 may split and HTTP/1 may not.
fn join_cookies(headers: &mut HeaderMap) {
    use http::header::COOKIE;
    if !HeaderFlags::from_headers(headers).has(HeaderFlags::COOKIE) {
        return;
    }
    let mut values = headers.get_all(COOKIE).iter();
    if values.next().is_none() || values.next().is_none() {
        return;
    }
    let joined = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect::<Vec<_>>()
        .join(&b"; "[..]);
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(version: Version, target: &str) -> Request<()> {
        let mut request = Request::builder()
            .uri(target)
            .version(version)
            .header(HOST, "web")
            .body(())
            .expect("valid");
        let form = h1::normalise(&mut request).expect("well-formed");
        let proto = upgrade_request(&mut request, form, Authority::from_static("web"));
        assert_eq!((request.version(), proto.version), (Version::HTTP_2, version));
        assert_eq!(request.uri().authority().map(Authority::as_str), Some("web"));
        assert_eq!(downgrade_request(&mut request), Some(proto));
        request
    }

    #[test]
    fn request_survives_a_round_trip() {
        for version in [Version::HTTP_10, Version::HTTP_11] {
            for target in ["/a?b", "http://web/a?b"] {
                let request = round_trip(version, target);
                assert_eq!(
                    (request.version(), request.uri().to_string().as_str()),
                    (version, target)
                );
                assert_eq!(request.headers().len(), 1, "only host is left");
            }
        }
    }

    #[test]
    fn does_not_invent_a_host_for_origin_form() {
        let mut request = Request::builder()
            .uri("http://web/")
            .version(Version::HTTP_2)
            .header(L5D_ORIG_PROTO, "HTTP/1.1")
            .body(())
            .expect("valid");
        assert!(downgrade_request(&mut request).is_some());
        assert!(request.headers().is_empty());
    }

    #[test]
    fn response_carries_its_version() {
        let request = OrigProto {
            version: Version::HTTP_11,
            absolute: false,
        };
        let mut response = Response::builder().version(Version::HTTP_10).body(()).expect("valid");
        upgrade_response(&mut response);
        assert_eq!(
            (response.version(), response.headers()[L5D_ORIG_PROTO].as_bytes()),
            (Version::HTTP_2, &b"HTTP/1.0"[..])
        );
        downgrade_response(&mut response, request);
        assert_eq!((response.version(), response.headers().len()), (Version::HTTP_10, 0));
        *response.version_mut() = Version::HTTP_2;
        downgrade_response(&mut response, request);
        assert_eq!(response.version(), Version::HTTP_11);
    }
}
