//! Hostile HTTP/1 heads on their way through both sidecars.

use http::{HeaderName, HeaderValue, Method, Request, Uri, Version};
use proxy_http::{h1, orig_proto};
use tests_fuzz::{Target, within};

/// Parses a head as hyper does: httparse, then the types of `http`.
fn request(bytes: &[u8]) -> Option<Request<()>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    parsed.parse(bytes).ok().filter(httparse::Status::is_complete)?;
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(parsed.method?.as_bytes()).ok()?;
    *request.uri_mut() = parsed.path?.parse::<Uri>().ok()?;
    *request.version_mut() = if parsed.version? == 0 {
        Version::HTTP_10
    } else {
        Version::HTTP_11
    };
    for header in parsed.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        request
            .headers_mut()
            .append(name, HeaderValue::from_bytes(header.value).ok()?);
    }
    Some(request)
}

const SEEDS: [&str; 6] = [
    "GET /a?b=c HTTP/1.1\r\nhost: web:80\r\nconnection: x-one, keep-alive\r\nx-one: 1\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\nte: trailers\r\n\r\n",
    "GET http://web.ns:8080/x HTTP/1.0\r\nhost: other\r\nproxy-connection: close\r\n\r\n",
    "GET /chat HTTP/1.1\r\nhost: web\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n",
    "GET / HTTP/1.1\r\nhost: web\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AA\r\n\r\n",
    "CONNECT web:443 HTTP/1.1\r\nhost: web:443\r\n\r\n",
];

#[test]
fn fuzz_http1_head() {
    let target = Target {
        name: "fuzz_http1_head",
        seeds: SEEDS.map(|text| text.as_bytes().to_vec()).into(),
        words: &[
            "\r\n",
            "h2c",
            "upgrade: ",
            "connection: ",
            "transfer-encoding: ",
            "content-length: ",
            "host: ",
            ", ",
            "*",
            "http://",
            "l5d-orig-proto: HTTP/1.1; absolute-form",
            "//",
            "HTTP/1.0",
            "?",
            "#",
            "@",
        ],
    };
    target.run(|bytes| {
        let Some(mut request) = request(bytes) else { return };
        let form = within(8 * bytes.len() + 4096, || h1::normalise(&mut request));
        let Ok(form) = form else { return };
        headers_are_of_one_hop(&request, form);
        if !form.upgrade {
            crosses_the_mesh(request, form);
        }
    });
}

fn headers_are_of_one_hop(request: &Request<()>, form: h1::Form) {
    let headers = request.headers();
    let all = |name: &str| headers.get_all(name).iter().collect::<Vec<_>>();
    if form.upgrade && request.method() != Method::CONNECT {
        let asks_for_h2c = |value: &&HeaderValue| value.as_bytes().to_ascii_lowercase().windows(3).any(|w| w == b"h2c");
        let is_token = |value: &HeaderValue| {
            let text = value.to_str().expect("text");
            text.split(',').any(|token| token.trim().eq_ignore_ascii_case("h2c"))
        };
        let found = all("upgrade").into_iter().filter(asks_for_h2c).any(is_token);
        assert!(!found, "HTTP/2 must not pass as bytes");
    }
    if !form.upgrade {
        for name in ["connection", "keep-alive", "proxy-connection", "upgrade"] {
            assert!(all(name).is_empty(), "{name} is of the client's connection");
        }
    }
    let both = !all("transfer-encoding").is_empty() && !all("content-length").is_empty();
    assert!(!both || request.method() == Method::CONNECT, "a message has one length");
}

/// A request goes out as HTTP/2 and arrives as what it was.
fn crosses_the_mesh(mut request: Request<()>, form: h1::Form) {
    let (uri, version) = (request.uri().clone(), request.version());
    let authority = h1::authority(&request).and_then(|text| text.parse().ok());
    let Some(authority) = authority else { return };
    let sent = orig_proto::upgrade_request(&mut request, form, authority);
    assert!(request.uri().scheme().is_some() && request.uri().authority().is_some());
    assert!(!request.headers().contains_key("transfer-encoding"));
    let received = orig_proto::downgrade_request(&mut request);
    assert_eq!(received, Some(sent));
    assert_eq!(request.version(), version);
    assert!(!request.headers().contains_key("l5d-orig-proto"));
    if uri.path() != "*" {
        assert_eq!(request.uri(), &uri);
    }
}
