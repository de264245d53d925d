//! Tests of route matching and precedence.

use http::{HeaderName, HeaderValue};
use proxy_model::{Meta, route::Pattern};

use super::*;

type TestRoute<M> = Route<M, u32>;

fn route<M>(hosts: Vec<HostMatch>, rules: Vec<(Vec<M>, u32)>) -> TestRoute<M> {
    let rules = rules
        .into_iter()
        .map(|(matches, action)| Rule {
            matches,
            filters: Vec::new(),
            action,
        })
        .collect();
    Route {
        meta: Meta::default_named("test"),
        hosts,
        rules,
        authorizations: Vec::new(),
    }
}

fn path(path: PathMatch) -> HttpMatch {
    HttpMatch {
        path: Some(path),
        ..HttpMatch::default()
    }
}

fn exact(p: &str) -> HttpMatch {
    path(PathMatch::Exact(p.into()))
}

fn prefix(p: &str) -> HttpMatch {
    path(PathMatch::Prefix(p.into()))
}

fn regex(p: &str) -> HttpMatch {
    path(PathMatch::Regex(Pattern::anchored(p).expect("pattern")))
}

fn pick(routes: &[TestRoute<HttpMatch>], uri: &str) -> Option<u32> {
    let (uri, headers) = (uri.parse().expect("uri"), HeaderMap::new());
    http(routes, &Head::new(&Method::GET, &uri, &headers)).map(|s| s.rule.action)
}

#[test]
fn hosts_rank_exact_then_the_longer_suffix_then_any() {
    let suffix = |labels: &[&str]| HostMatch::Suffix(labels.iter().map(|l| (*l).to_owned()).collect());
    let routes = [
        route(vec![], vec![(vec![exact("/")], 0)]),
        route(vec![suffix(&["com"])], vec![(vec![], 1)]),
        route(vec![suffix(&["com", "example"])], vec![(vec![], 2)]),
        route(vec![HostMatch::Exact("a.Example.com".into())], vec![(vec![], 3)]),
    ];
    assert_eq!(pick(&routes, "http://A.example.com:80/"), Some(3));
    assert_eq!(pick(&routes, "http://b.example.com/"), Some(2));
    assert_eq!(
        pick(&routes, "http://example.com/"),
        Some(1),
        "a suffix does not match the bare name"
    );
    assert_eq!(pick(&routes, "http://org/"), Some(0));
    assert_eq!(pick(&routes, "http://org/other"), None);
}

#[test]
fn the_host_comes_from_the_header_when_the_uri_has_none() {
    let routes = [route(vec![HostMatch::Exact("web".into())], vec![(vec![], 1)])];
    let mut headers = HeaderMap::new();
    let uri = "/x".parse().expect("uri");
    assert!(http(&routes, &Head::new(&Method::GET, &uri, &headers)).is_none());
    headers.insert(HOST, HeaderValue::from_static("WEB.:8080"));
    assert_eq!(without_port("[::1]:80"), "[::1]");
    assert_eq!(Head::new(&Method::GET, &uri, &headers).host(), "WEB");
    assert!(http(&routes, &Head::new(&Method::GET, &uri, &headers)).is_some());
}

#[test]
fn paths_rank_exact_then_regex_then_the_longer_prefix() {
    let routes = [route(
        vec![],
        vec![
            (vec![prefix("/")], 0),
            (vec![prefix("/a/")], 1),
            (vec![prefix("/a/b")], 2),
            (vec![regex("/a/b/[0-9]+")], 3),
            (vec![exact("/a/b/7")], 4),
        ],
    )];
    for (path, want) in [
        ("/a/b/7", 4),
        ("/a/b/8", 3),
        ("/a/b/c", 2),
        ("/a/bc", 1),
        ("/a", 1),
        ("/ab", 0),
        ("/", 0),
    ] {
        assert_eq!(pick(&routes, path), Some(want), "{path}");
    }
}

#[test]
fn then_headers_then_query_then_method_and_the_first_wins_a_tie() {
    let header = |name: &'static str, value| HeaderMatch {
        name: HeaderName::from_static(name),
        value,
    };
    let red = HeaderValueMatch::Exact(HeaderValue::from_static("red"));
    let with_header = HttpMatch {
        headers: vec![header("x-color", red)],
        ..exact("/")
    };
    let query = QueryMatch {
        name: "a b".into(),
        value: QueryValueMatch::Exact("1&2".into()),
    };
    let with_query = HttpMatch {
        query: vec![query],
        ..exact("/")
    };
    let with_method = HttpMatch {
        method: Some(Method::GET),
        ..exact("/")
    };
    let routes = [
        route(vec![], vec![(vec![exact("/")], 0), (vec![exact("/")], 1)]),
        route(
            vec![],
            vec![(vec![with_method], 2), (vec![with_query], 3), (vec![with_header], 4)],
        ),
    ];
    let with = |method: Method, uri: &str, color: Option<&'static str>| {
        let (uri, mut headers) = (uri.parse().expect("uri"), HeaderMap::new());
        if let Some(color) = color {
            headers.append("x-color", HeaderValue::from_static("blue"));
            headers.append("x-color", HeaderValue::from_static(color));
        }
        http(&routes, &Head::new(&method, &uri, &headers)).map(|s| s.rule.action)
    };
    assert_eq!(with(Method::POST, "/", None), Some(0));
    assert_eq!(with(Method::GET, "/", None), Some(2));
    assert_eq!(with(Method::GET, "/?x=1&a+b=1%262", None), Some(3));
    assert_eq!(with(Method::GET, "/?a%20b=1%262", Some("red")), Some(4));
    assert_eq!(with(Method::POST, "/?a%20b=2", Some("green")), Some(0));
}

#[test]
fn grpc_needs_post_and_a_method() {
    let rpc = |service: Option<&str>, method: Option<&str>| GrpcMatch {
        service: service.map(Into::into),
        method: method.map(Into::into),
        headers: Vec::new(),
        has_rpc: true,
    };
    let routes = [route(
        vec![],
        vec![
            (vec![], 0),
            (vec![rpc(None, Some("Vote"))], 1),
            (vec![rpc(Some("v.Voting"), None)], 2),
            (vec![rpc(Some("v.Voting"), Some("Vote"))], 3),
        ],
    )];
    let with = |method: Method, path: &str| {
        let (uri, headers) = (path.parse().expect("uri"), HeaderMap::new());
        grpc(&routes, &Head::new(&method, &uri, &headers)).map(|s| s.rule.action)
    };
    assert_eq!(with(Method::POST, "/v.Voting/Vote"), Some(3));
    assert_eq!(with(Method::POST, "/v.Voting/Top"), Some(2));
    assert_eq!(with(Method::POST, "/v.Other/Vote"), Some(1));
    assert_eq!(with(Method::POST, "/v.Other/Top"), Some(0));
    assert_eq!(with(Method::GET, "/v.Voting/Vote"), None);
    assert_eq!(with(Method::POST, "/nothing"), None);
}

#[test]
fn selects_by_sni() {
    let routes = [
        route::<()>(vec![HostMatch::Suffix(vec!["com".into()])], vec![]),
        route(vec![HostMatch::Exact("a.com".into())], vec![]),
    ];
    assert_eq!(sni(&routes, Some("a.com")), Some(&routes[1]));
    assert_eq!(sni(&routes, Some("b.com")), Some(&routes[0]));
    assert_eq!(sni(&routes, Some("b.org")), None);
    assert_eq!(sni(&routes, None), None);
}

#[test]
fn matches_conditions_of_profiles() {
    let condition = RequestMatch::All(vec![
        RequestMatch::Not(Box::new(RequestMatch::Method(Method::GET))),
        RequestMatch::Any(vec![RequestMatch::Path(
            Pattern::anchored("/books/[0-9]+").expect("pattern"),
        )]),
    ]);
    assert!(profile(Some(&condition), &Method::POST, "/books/1"));
    assert!(!profile(Some(&condition), &Method::GET, "/books/1"));
    assert!(!profile(Some(&condition), &Method::POST, "/books/1/x"));
    assert!(
        !profile(None, &Method::POST, "/books/1"),
        "no condition matches nothing"
    );
}

#[test]
fn a_header_that_is_not_text_matches_no_expression() {
    let anything = |pattern: &str| HttpMatch {
        headers: vec![HeaderMatch {
            name: HeaderName::from_static("x-tenant"),
            value: HeaderValueMatch::Regex(Pattern::anchored(pattern).expect("pattern")),
        }],
        ..HttpMatch::default()
    };
    let uri = Uri::from_static("/");
    for pattern in [".*", "(?s).*", "acme.*", "[^x]*"] {
        let routes = [route(vec![], vec![(vec![anything(pattern)], 1)])];
        let select = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-tenant", HeaderValue::from_bytes(value).expect("valid"));
            }
            http(&routes, &Head::new(&Method::GET, &uri, &headers)).map(|selected| selected.rule.action)
        };
        for bytes in [
            &b"acme\xff"[..],
            b"\xff",
            b"acme\xc3",
            b"acme\xed\xa0\x80",
            b"acme\xc3\xa9",
        ] {
            assert_eq!(select(&[bytes]), None, "{pattern} {bytes:?}");
            assert_eq!(select(&[bytes, b"acme"]), Some(1), "{pattern} {bytes:?}: another value");
        }
    }
}
