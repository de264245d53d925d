//! Filters on single requests, by the tables of the Gateway API.

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
