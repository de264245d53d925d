//! HTTP/1 between hops: connection headers, malformed requests, and upgrades.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE},
    uri::{Authority, PathAndQuery, Scheme},
};

use crate::headers::{HeaderFlags, KEEP_ALIVE, PROXY_CONNECTION};

/// Malformed request, answered with 400.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// `GET example.com:80`.
    #[error("authority-form request target in a method other than CONNECT")]
    AuthorityForm,
    /// `CONNECT` in HTTP/1.0.
    #[error("CONNECT requires HTTP/1.1")]
    ConnectVersion,
    /// `CONNECT http://example.com/path`.
    #[error("CONNECT requires a target of the form host:port")]
    ConnectTarget,
    /// More than one `host` (RFC 9112, 3.2).
    #[error("more than one host header")]
    TwoHosts,
    /// A `host` other than the authority of an HTTP/2 request (RFC 9113, 8.3.1).
    #[error("the host header differs from the authority")]
    HostMismatch,
}

/// Facts about an HTTP/1 request, established by [`normalise`].
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// The target is in absolute form, and is forwarded in the same form.
    pub absolute: bool,
    /// The request asks for an upgrade, or is a CONNECT.
    pub upgrade: bool,
}

/// Rejects malformed requests, and strips the headers of the client's connection unless the request is an upgrade.
pub fn normalise<B>(request: &mut Request<B>) -> Result<Form, Malformed> {
    let uri = request.uri();
    let absolute = uri.scheme().is_some();
    if request.method() == Method::CONNECT {
        if request.version() == Version::HTTP_10 {
            return Err(Malformed::ConnectVersion);
        }
        if absolute || uri.authority().is_none() {
            return Err(Malformed::ConnectTarget);
        }
        return Ok(Form {
            absolute: false,
            upgrade: true,
        });
    }
    if !absolute && uri.authority().is_some() {
        return Err(Malformed::AuthorityForm);
    }
    let seen = HeaderFlags::from_headers(request.headers());
    let upgrade = seen.has(HeaderFlags::UPGRADE) && wants_upgrade(request);
    if !upgrade && seen.has(HeaderFlags::HOP_BY_HOP) {
        strip_hop_by_hop(request.headers_mut());
    }
    one_length(request.headers_mut(), seen);
    Ok(Form { absolute, upgrade })
}

/// Rejects requests that name more than one host: policy and application might each take another one.
pub fn one_host<B>(request: &Request<B>) -> Result<(), Malformed> {
    let headers = request.headers();
    // A repeated header of any name is rare.
    if headers.len() != headers.keys_len() && headers.get_all(HOST).iter().nth(1).is_some() {
        return Err(Malformed::TwoHosts);
    }
    if request.version() != Version::HTTP_2 {
        return Ok(());
    }
    let (Some(host), Some(authority)) = (headers.get(HOST), request.uri().authority()) else {
        return Ok(());
    };
    let is_same = || {
        let host: Authority = host.to_str().ok()?.parse().ok()?;
        let port = |authority: &Authority| authority.port_u16().unwrap_or(80);
        Some(host.host().eq_ignore_ascii_case(authority.host()) && port(&host) == port(authority))
    };
    if host == authority.as_str() || is_same() == Some(true) {
        Ok(())
    } else {
        Err(Malformed::HostMismatch)
    }
}

/// Strips the headers of the server's connection unless the response switches protocols.
pub fn normalise_response<B>(response: &mut Response<B>) {
    let seen = HeaderFlags::from_headers(response.headers());
    if response.status() != StatusCode::SWITCHING_PROTOCOLS && seen.has(HeaderFlags::HOP_BY_HOP) {
        strip_hop_by_hop(response.headers_mut());
    }
    one_length(response.headers_mut(), seen);
}

/// A chunked message has no other length: a recipient that honoured one would see a different message (RFC 9112, 6.3).
fn one_length(headers: &mut HeaderMap, seen: HeaderFlags) {
    if seen.has(HeaderFlags::TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
}

/// Removes headers that the response to a successful CONNECT must not carry.
pub fn strip_connect_response<B>(response: &mut Response<B>) {
    response.headers_mut().remove(CONTENT_LENGTH);
    response.headers_mut().remove(TRANSFER_ENCODING);
}

/// Returns true if an HTTP/1.1 request asks for an upgrade that the proxy supports: any but `h2c`.
pub fn wants_upgrade<B>(request: &Request<B>) -> bool {
    if request.version() != Version::HTTP_11 {
        return false;
    }
    let headers = request.headers();
    // Comparing each name is cheap: a request has few headers, and hardly ever this one.
    if !headers.keys().any(|name| *name == UPGRADE) {
        return false;
    }
    // A server that reads tokens would accept h2c from a list too, and the client would speak HTTP/2 past this proxy.
    let is_h2c = |value| tokens(value).any(|token| token.eq_ignore_ascii_case("h2c"));
    if headers
        .get_all(UPGRADE)
        .iter()
        .any(|value| value.to_str().is_err() || is_h2c(value))
    {
        return false;
    }
    headers
        .get_all(CONNECTION)
        .iter()
        .any(|value| tokens(value).any(|token| token.eq_ignore_ascii_case("upgrade")))
}

/// Removes `connection`, the headers it lists, and its relatives.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    while let Some(value) = headers.remove(CONNECTION) {
        for token in tokens(&value) {
            if token.eq_ignore_ascii_case("keep-alive") || token.eq_ignore_ascii_case("close") {
                continue;
            }
            if let Ok(name) = HeaderName::from_bytes(token.as_bytes()) {
                remove_listed(headers, &name);
            }
        }
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, UPGRADE] {
        headers.remove(name);
    }
}

/// Removes request headers that HTTP/2 forbids: those of a connection, and any `te` but `trailers`.
pub fn strip_for_http2(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    headers.remove(TRANSFER_ENCODING);
    if headers.get(TE).is_some_and(|te| te != "trailers") {
        headers.remove(TE);
    }
}

/// Removes a listed header, except the framing and addressing of the message itself.
fn remove_listed(headers: &mut HeaderMap, name: &HeaderName) {
    if *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING && *name != HOST {
        headers.remove(name);
    }
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value
        .to_str()
        .unwrap_or("")
        .split(',')
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

/// Returns the authority of a request: that of its URI, else its Host.
pub fn authority<B>(request: &Request<B>) -> Option<&str> {
    if let Some(authority) = request.uri().authority() {
        return Some(authority.as_str());
    }
    request
        .headers()
        .get(HOST)?
        .to_str()
        .ok()
        .filter(|host| !host.is_empty())
}

/// Converts the target to origin form: `/path?query`. `OPTIONS *` is unchanged.
pub fn set_origin_form(uri: &mut Uri) {
    if uri.authority().is_none() {
        return;
    }
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = Some(path_of(uri));
    *uri = Uri::from_parts(parts).expect("a path alone is a URI");
}

/// Converts the target to absolute form, `http://authority/path?query`, as HTTP/2 requires.
pub fn set_absolute_form(uri: &mut Uri, authority: Authority) {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(uri.scheme().cloned().unwrap_or(Scheme::HTTP));
    parts.path_and_query = Some(path_of(uri));
    parts.authority = Some(authority);
    *uri = Uri::from_parts(parts).expect("scheme, authority and path are a URI");
}

fn path_of(uri: &Uri) -> PathAndQuery {
    uri.path_and_query()
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method, target: &str, version: Version) -> Request<()> {
        Request::builder()
            .method(method)
            .uri(target)
            .version(version)
            .body(())
            .expect("valid")
    }

    #[test]
    fn strips_listed_headers_but_not_the_framing() {
        let mut request = request(Method::GET, "/", Version::HTTP_11);
        for (name, value) in [
            ("connection", "x-one, Content-Length"),
            ("connection", "keep-alive"),
            ("x-one", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("content-length", "0"),
            ("te", "trailers"),
        ] {
            request.headers_mut().append(name, HeaderValue::from_static(value));
        }
        assert_eq!(normalise(&mut request), Ok(Form::default()));
        let mut left: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "te"]);
    }

    #[test]
    fn chunked_messages_lose_their_content_length() {
        let mut request = request(Method::POST, "/", Version::HTTP_11);
        request
            .headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from_static("5"));
        request
            .headers_mut()
            .insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        assert_eq!(normalise(&mut request), Ok(Form::default()));
        assert!(!request.headers().contains_key(CONTENT_LENGTH));
    }

    #[test]
    fn upgrade_headers_are_kept_except_for_h2c() {
        let mut ws = request(Method::GET, "/", Version::HTTP_11);
        ws.headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
        ws.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        assert_eq!(
            normalise(&mut ws),
            Ok(Form {
                absolute: false,
                upgrade: true
            })
        );
        assert!(ws.headers().contains_key(UPGRADE));
        ws.headers_mut().insert(UPGRADE, HeaderValue::from_static("h2c"));
        assert_eq!(normalise(&mut ws), Ok(Form::default()));
        assert!(!ws.headers().contains_key(UPGRADE));
    }

    #[test]
    fn h2c_is_not_forwarded_in_any_form() {
        for values in [
            &["h2c, websocket"][..],
            &["websocket", "h2c"],
            &["websocket,H2C"],
            &["\u{e9}, h2c"],
        ] {
            let mut smuggled = request(Method::GET, "/", Version::HTTP_11);
            let headers = smuggled.headers_mut();
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade, HTTP2-Settings"));
            headers.insert("http2-settings", HeaderValue::from_static("AAMAAABk"));
            for value in values {
                headers.append(UPGRADE, HeaderValue::from_bytes(value.as_bytes()).expect("valid"));
            }
            assert_eq!(normalise(&mut smuggled), Ok(Form::default()), "{values:?}");
            assert!(smuggled.headers().is_empty(), "{values:?}");
        }
    }

    #[test]
    fn rejects_malformed_targets() {
        let refused = |method, target, version| normalise(&mut request(method, target, version));
        assert_eq!(
            refused(Method::GET, "example.com:80", Version::HTTP_11),
            Err(Malformed::AuthorityForm)
        );
        assert_eq!(
            refused(Method::CONNECT, "example.com:80", Version::HTTP_10),
            Err(Malformed::ConnectVersion)
        );
        assert_eq!(
            refused(Method::CONNECT, "http://a/b", Version::HTTP_11),
            Err(Malformed::ConnectTarget)
        );
        assert!(refused(Method::CONNECT, "example.com:80", Version::HTTP_11).is_ok_and(|form| form.upgrade));
    }

    #[test]
    fn converts_between_target_forms() {
        let mut uri: Uri = "http://a:1/x?y".parse().expect("valid");
        set_origin_form(&mut uri);
        assert_eq!(uri.to_string(), "/x?y");
        set_absolute_form(&mut uri, Authority::from_static("b:2"));
        assert_eq!(uri.to_string(), "http://b:2/x?y");
    }
}
