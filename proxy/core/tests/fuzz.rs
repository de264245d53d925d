//! Hostile first bytes of a connection.

use std::sync::Arc;

use proxy_core::{
    detect::{self, Detected, Hello, client_hello},
    path,
};
use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::aws_lc_rs::default_provider, server::Acceptor};
use tests_fuzz::{Target, within};

#[test]
fn fuzz_http_detection() {
    let seeds = [
        "GET / HTTP/1.1\r\nhost: web\r\n\r\n",
        "POST http://web.ns:80/a?b HTTP/1.0\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0",
    ];
    let target = Target {
        name: "fuzz_http_detection",
        seeds: seeds.map(|text| text.as_bytes().to_vec()).into(),
        words: &["PRI * HTTP/2.0", "HTTP/1.1", "HTTP/0.9", "\r\n", "GET ", "\0"],
    };
    target.run(|bytes| {
        let whole = within(0, || detect::http(bytes));
        let cuts = (0..bytes.len().min(64)).map(|end| detect::http(&bytes[..end]));
        if let Some(early) = cuts.into_iter().find(|early| *early != Detected::NeedMore) {
            // The rest of a request may turn out malformed; nothing else is taken back.
            let is_same = early == whole || (early, whole) == (Detected::Http1, Detected::NotHttp);
            assert!(is_same, "{early:?} became {whole:?}");
        }
        // The server that parses the request afterwards must not see HTTP where detection saw none.
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let parsed = httparse::Request::new(&mut headers).parse(bytes);
        if whole == Detected::NotHttp {
            assert!(!matches!(parsed, Ok(httparse::Status::Complete(_))));
        }
    });
}

/// A ClientHello of rustls.
fn hello(name: &'static str) -> Vec<u8> {
    let mut provider = default_provider();
    // Small: no post-quantum key share.
    provider.kx_groups.truncate(1);
    let config = ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions();
    let builder = config.expect("versions").with_root_certificates(RootCertStore::empty());
    let config = Arc::new(builder.with_no_client_auth());
    let mut client = ClientConnection::new(config, name.try_into().expect("a name")).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("a vector");
    bytes
}

/// Name that rustls takes from a ClientHello; none without one, or if it does not accept the ClientHello.
fn reference(bytes: &[u8]) -> Option<String> {
    let (mut acceptor, mut bytes) = (Acceptor::default(), bytes);
    acceptor.read_tls(&mut bytes).ok()?;
    let accepted = acceptor.accept().ok()??;
    accepted.client_hello().server_name().map(str::to_ascii_lowercase)
}

#[test]
fn fuzz_client_hello() {
    let target = Target {
        name: "fuzz_client_hello",
        seeds: vec![
            hello("web.emoji.serviceaccount.identity.linkerd.cluster.local"),
            hello("127.0.0.1"),
        ],
        words: &["\0\0", "\u{16}\u{3}\u{1}", "\u{1}\0", "web", "*", "."],
    };
    target.run(|bytes| {
        let whole = within(bytes.len() + 512, || client_hello(bytes));
        for end in (0..bytes.len()).step_by(7).chain([bytes.len().saturating_sub(1)]) {
            match client_hello(&bytes[..end.min(bytes.len())]) {
                Hello::NeedMore => {}
                decided => assert_eq!(decided, whole, "{end} bytes decided otherwise"),
            }
        }
        // The name by which traffic is judged is the one that the TLS library would serve.
        if let (Some(name), Hello::Hello { sni }) = (reference(bytes), whole) {
            assert_eq!(sni, Some(name));
        }
    });
}

/// Path that a rule protects.
fn is_protected(path: &str) -> bool {
    path == "/admin" || path.starts_with("/admin/")
}

/// Paths that applications make of a path: decoded up to twice, then with parameters stripped, slashes merged, dot
/// segments resolved, in the ways of well-known servers.
fn served(path: &str) -> Vec<String> {
    let decode = |text: &str| {
        let (bytes, mut decoded, mut at) = (text.as_bytes(), Vec::new(), 0);
        while let Some(byte) = bytes.get(at) {
            let hex = |index: usize| char::from(*bytes.get(index)?).to_digit(16);
            match (byte, hex(at + 1).zip(hex(at + 2))) {
                (b'%', Some((high, low))) => {
                    decoded.push((high * 16 + low) as u8);
                    at += 3;
                }
                _ => {
                    decoded.push(*byte);
                    at += 1;
                }
            }
        }
        String::from_utf8_lossy(&decoded).into_owned()
    };
    let strip = |text: &str| {
        let bare = text
            .split('/')
            .map(|segment| segment.split(';').next().unwrap_or_default());
        bare.collect::<Vec<_>>().join("/")
    };
    let cut = |text: &str| text.split(['?', '#', '\0']).next().unwrap_or_default().to_owned();
    let resolve = |text: &str| {
        let mut segments = Vec::new();
        for segment in text.replace('\\', "/").split('/').filter(|segment| !segment.is_empty()) {
            match segment {
                "." => {}
                ".." => drop(segments.pop()),
                segment => segments.push(segment.to_owned()),
            }
        }
        format!("/{}", segments.join("/"))
    };
    let (once, twice) = (decode(path), decode(&decode(path)));
    let mut all = Vec::new();
    for text in [path, &once, &twice, &decode(&strip(path)), &decode(&cut(path))] {
        let cut = cut(text);
        all.extend([
            resolve(text),
            resolve(&strip(text)),
            resolve(&cut),
            resolve(&strip(&cut)),
            strip(text),
        ]);
    }
    all
}

#[test]
fn fuzz_path_readings() {
    let seeds = [
        "/public/../admin",
        "//admin",
        "/%61dmin",
        "/admin;x",
        "/public;/../admin",
        "/%2e%2e/admin",
        "/a/..;/admin/x",
        "/%252e%252e/admin",
        "/admin%2fx",
        "/public%3f/admin",
        "/.%2e/admin",
        "/public\\..\\admin",
        "/%c0%ae/admin",
        "/;//admin",
    ];
    let target = Target {
        name: "fuzz_path_readings",
        seeds: seeds.map(|text| text.as_bytes().to_vec()).into(),
        words: &[
            "admin", "/", "..", "%2e", "%2F", "%25", ";", "%3b", "%5c", "\\", "%00", "%3F", "?", "%23", ".", "%61",
            "//",
        ],
    };
    target.run(|bytes| {
        let Ok(target) = http::uri::PathAndQuery::try_from(bytes) else {
            return;
        };
        let path = target.path();
        if !path.starts_with('/') || is_protected(path) {
            return;
        }
        let is_served = within(128 * path.len() + 4096, || {
            !path::is_ambiguous(path) || path::all_readings(path, |reading, _| !is_protected(reading))
        });
        // What the policy lets through is not what it protects, whichever way the application reads it.
        if is_served {
            let protected = served(path).into_iter().find(|served| is_protected(served));
            assert_eq!(protected, None, "{path:?}");
        }
    });
}
