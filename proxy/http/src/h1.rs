//! HTTP/1 between hops: which headers belong to one connection only, which requests are malformed, which ask for an
//! upgrade.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE},
    uri::{Authority, PathAndQuery, Scheme},
};

use crate::headers::{KEEP_ALIVE, PROXY_CONNECTION, Seen};

/// Why a request cannot be forwarded at all (400).
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// `GET example.com:80`.
    #[error("the request target has the authority form, which only CONNECT may use")]
    AuthorityForm,
    /// `CONNECT` in HTTP/1.0.
    #[error("CONNECT needs HTTP/1.1")]
    ConnectVersion,
    /// `CONNECT http://example.com/path`.
    #[error("CONNECT needs a target of the form host:port")]
    ConnectTarget,
}

/// What is known of an HTTP/1 request after [`normalise`].
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// The target came in absolute form; it goes to the application in the same form.
    pub absolute: bool,
    /// The request asks for an upgrade, or is a CONNECT.
    pub upgrade: bool,
}

/// Refuses what is malformed, and strips what belongs to the connection that the request came on, unless it is an upgrade.
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
    let seen = Seen::of(request.headers());
    let upgrade = seen.has(Seen::UPGRADE) && wants_upgrade(request);
    if !upgrade && seen.has(Seen::HOP_BY_HOP) {
        strip_hop_by_hop(request.headers_mut());
    }
    one_length(request.headers_mut(), seen);
    Ok(Form { absolute, upgrade })
}

/// Strips what belongs to the connection that a response came on, unless it switches protocols.
pub fn normalise_response<B>(response: &mut Response<B>) {
    let seen = Seen::of(response.headers());
    if response.status() != StatusCode::SWITCHING_PROTOCOLS && seen.has(Seen::HOP_BY_HOP) {
        strip_hop_by_hop(response.headers_mut());
    }
    one_length(response.headers_mut(), seen);
}

/// A message that is chunked has no other length: whoever believed one would see another message than we do (RFC 9112, 6.3).
fn one_length(headers: &mut HeaderMap, seen: Seen) {
    if seen.has(Seen::TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
}

/// What a successful CONNECT's response must not carry.
pub fn strip_connect_response<B>(response: &mut Response<B>) {
    response.headers_mut().remove(CONTENT_LENGTH);
    response.headers_mut().remove(TRANSFER_ENCODING);
}

/// Whether an HTTP/1.1 request asks for an upgrade that we carry through: any but `h2c`.
pub fn wants_upgrade<B>(request: &Request<B>) -> bool {
    if request.version() != Version::HTTP_11 {
        return false;
    }
    let headers = request.headers();
    // A look at each name: a request has few headers, and nearly never this one.
    if !headers.keys().any(|name| *name == UPGRADE) {
        return false;
    }
    let Some(protocol) = headers.get(UPGRADE) else {
        return false;
    };
    if protocol.as_bytes().eq_ignore_ascii_case(b"h2c") {
        return false;
    }
    headers
        .get_all(CONNECTION)
        .iter()
        .any(|value| tokens(value).any(|token| token.eq_ignore_ascii_case("upgrade")))
}

/// Removes `connection`, all that it lists, and its relatives.
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

/// Removes what HTTP/2 forbids in a request: all that belongs to a connection, and any `te` but `trailers`.
pub fn strip_for_http2(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    headers.remove(TRANSFER_ENCODING);
    if headers.get(TE).is_some_and(|te| te != "trailers") {
        headers.remove(TE);
    }
}

/// A client cannot have the framing or the addressing of its own message removed by listing it.
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

/// The authority that a request names: its URI's, else its Host.
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

/// Makes the target origin form: `/path?query`. `OPTIONS *` stays.
pub fn set_origin_form(uri: &mut Uri) {
    if uri.authority().is_none() {
        return;
    }
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = Some(path_of(uri));
    *uri = Uri::from_parts(parts).expect("a path alone is a URI");
}

/// Makes the target absolute: `http://authority/path?query`, as HTTP/2 needs it.
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
    fn what_a_connection_lists_is_stripped_but_not_the_framing() {
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
    fn a_chunked_message_has_no_other_length() {
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
    fn an_upgrade_keeps_its_headers_and_h2c_does_not() {
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
    fn malformed_targets_are_refused() {
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
    fn targets_change_form() {
        let mut uri: Uri = "http://a:1/x?y".parse().expect("valid");
        set_origin_form(&mut uri);
        assert_eq!(uri.to_string(), "/x?y");
        set_absolute_form(&mut uri, Authority::from_static("b:2"));
        assert_eq!(uri.to_string(), "http://b:2/x?y");
    }
}
