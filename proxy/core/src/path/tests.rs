//! Readings of paths, and the property that they exist for: what a policy allows is what an application sees.

use http::{HeaderMap, Method, Uri};
use proptest::prelude::*;
use proxy_model::{
    Meta,
    inbound::Action,
    route::{HttpMatch, PathMatch, Route, Rule},
};

use super::*;
use crate::select::{self, Head};

fn readings(path: &str) -> Option<Vec<String>> {
    let mut all = Vec::new();
    let mut keep = |reading: &str, _| {
        all.push(reading.to_owned());
        true
    };
    all_readings(path, &mut keep).then_some(all)
}

#[test]
fn plain_paths_have_one_reading() {
    for path in [
        "/",
        "/a/b.c/d",
        "*",
        "",
        "/a-b_c~d/e:f@g,h=i+j",
        "/a.",
        "/a..b",
        "/caf\u{e9}",
    ] {
        assert!(!is_ambiguous(path), "{path}");
        assert_eq!(readings(path), Some(vec![]), "{path}");
    }
    assert_eq!(readings("/.well-known/x"), Some(vec![]), "looked at, and plain");
}

#[test]
fn readings_are_decoded_cut_stripped_and_merged() {
    let all = |path: &str| {
        assert!(is_ambiguous(path), "{path}");
        readings(path).unwrap_or_else(|| panic!("{path} is hostile"))
    };
    assert_eq!(all("/%61"), ["/a"]);
    assert_eq!(all("/a%2fb"), ["/a/b"]);
    assert_eq!(all("/%2561"), ["/%61", "/a"]);
    assert_eq!(all("//a"), ["/a"]);
    assert_eq!(all("/a;b/c"), ["/a/c"]);
    assert_eq!(all("/a%3fb"), ["/a?b", "/a"]);
    assert_eq!(all("//a;b"), ["//a", "/a;b", "/a"]);
    assert_eq!(all("/100%25"), ["/100%"]);
    assert_eq!(all("/caf%c3%a9"), ["/caf\u{e9}"]);
}

#[test]
fn hostile_paths_have_no_reading() {
    for path in [
        "/a/../b",
        "/..",
        "/./a",
        "/%2e%2E/a",
        "/..%2fa",
        "/%252e%252e/a",
        "/..;x/a",
        "/..%3bx/a",
        "/..%3f",
        "/a\\b",
        "/a%5cb",
        "/a%00",
        "/a%0d%0ab",
        "/a%7f",
        "/%c0%ae",
        "/%e0%80%ae",
        "/%f0%80%80%ae",
        "/%zz",
        "/%2",
        "/%u002e",
        "/%25252e",
    ] {
        assert!(is_ambiguous(path), "{path}");
        assert_eq!(readings(path), None, "{path}");
    }
}

fn route(name: &str, path: PathMatch) -> Route<HttpMatch, Action> {
    let matched = HttpMatch {
        path: Some(path),
        ..HttpMatch::default()
    };
    Route {
        meta: Meta::default_named(name),
        hosts: vec![],
        rules: vec![Rule {
            matches: vec![matched],
            filters: vec![],
            action: Action,
        }],
        authorizations: vec![],
    }
}

/// Name of the route that a policy selects for a path.
fn decide<'p>(routes: &'p [Route<HttpMatch, Action>], path: &str, level: u8) -> Option<&'p str> {
    let (uri, headers) = (Uri::from_static("/"), HeaderMap::new());
    let head = Head::new(&Method::GET, &uri, &headers).reading(path, level);
    Some(select::http(routes, &head)?.route.meta.name())
}

#[test]
fn literals_are_decoded_like_the_paths_they_are_compared_with() {
    let routes = [route("cafe", PathMatch::Prefix("/caf%C3%A9".to_owned()))];
    assert_eq!(decide(&routes, "/caf%C3%A9/x", 0), Some("cafe"));
    assert_eq!(decide(&routes, "/caf\u{e9}/x", 1), Some("cafe"));
    assert_eq!(decide(&routes, "/caf\u{e9}/x", 0), None);
}

/// Step of an application between a request's path and its router.
#[derive(Copy, Clone, Debug)]
enum Step {
    Decode,
    /// Backslashes as slashes, as Windows and browsers read them.
    Slash,
    /// RFC 3986, 5.2.4.
    Dots,
    Merge,
    /// Path parameters, as servlet containers drop them.
    Parameters,
    /// The part behind a question mark or a number sign, as a second parser drops it.
    Cut,
    /// The part behind a NUL, as C drops it.
    Nul,
}

/// A normaliser that shares no code with the one under test.
fn step(path: &[u8], step: Step) -> Vec<u8> {
    let hex = |digit: u8| (digit as char).to_digit(16).map(|digit| digit as u8);
    match step {
        Step::Decode => {
            let (mut out, mut at) = (Vec::new(), 0);
            while at < path.len() {
                let digits = path.get(at + 1).zip(path.get(at + 2));
                match digits.and_then(|(high, low)| Some((hex(*high)?, hex(*low)?))) {
                    Some((high, low)) if path[at] == b'%' => {
                        out.push(high << 4 | low);
                        at += 3;
                    }
                    _ => {
                        out.push(path[at]);
                        at += 1;
                    }
                }
            }
            out
        }
        Step::Slash => path.iter().map(|b| if *b == b'\\' { b'/' } else { *b }).collect(),
        Step::Dots => {
            let mut out: Vec<&[u8]> = Vec::new();
            let segments: Vec<_> = path.split(|b| *b == b'/').skip(1).collect();
            for (index, segment) in segments.iter().enumerate() {
                let is_last = index + 1 == segments.len();
                match *segment {
                    b"." if is_last => out.push(b""),
                    b"." => {}
                    b".." => {
                        out.pop();
                        if is_last {
                            out.push(b"");
                        }
                    }
                    other => out.push(other),
                }
            }
            [b"/", out.join(&b'/').as_slice()].concat()
        }
        Step::Merge => {
            let mut out = path.to_vec();
            out.dedup_by(|a, b| *a == b'/' && *b == b'/');
            out
        }
        Step::Parameters => {
            let bare = |segment: &[u8]| segment.split(|b| *b == b';').next().unwrap_or_default().to_vec();
            path.split(|b| *b == b'/').map(bare).collect::<Vec<_>>().join(&b'/')
        }
        Step::Cut => path
            .split(|b| matches!(b, b'?' | b'#'))
            .next()
            .unwrap_or_default()
            .to_vec(),
        Step::Nul => path.split(|b| *b == 0).next().unwrap_or_default().to_vec(),
    }
}

/// Pieces of nasty paths: parts of the policies' own, and everything that hides them.
const PIECES: [&str; 40] = [
    "/", "/", "/", "//", "a", "b", "admin", "public", "..", ".", ";", ";x", "\\", "%2f", "%2F", "%5c", "%2e", "%2e%2e",
    "%61", "%61dmin", "%3b", "%3f", "%23", "%25", "%252f", "%252e", "%2561", "%00", "%c0%ae", "%c0%af", "%e9",
    "%C3%A9", "%", "%2", "x", "?", "%41", "%3B", "%25252e", "ADMIN",
];

fn paths() -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..9).prop_map(|pieces| {
        let path: String = pieces.concat();
        // The server has cut the query.
        format!("/{}", path.split('?').next().unwrap_or_default())
    })
}

/// Paths of policies.
const LITERALS: [&str; 8] = [
    "/",
    "/a",
    "/a/b",
    "/admin",
    "/public",
    "/public/a",
    "/a/admin",
    "/public/x/b",
];

fn policies() -> impl Strategy<Value = Vec<Route<HttpMatch, Action>>> {
    let literal = (proptest::sample::select(&LITERALS[..]), any::<bool>());
    let routes = |literals: Vec<(&str, bool)>| {
        let route = |(index, (text, exact)): (usize, (&str, bool))| {
            let kind = if exact { PathMatch::Exact } else { PathMatch::Prefix };
            route(&index.to_string(), kind(text.to_owned()))
        };
        literals.into_iter().enumerate().map(route).collect()
    };
    proptest::collection::vec(literal, 1..5).prop_map(routes)
}

fn applications() -> impl Strategy<Value = Vec<Step>> {
    use Step::*;
    proptest::collection::vec(
        proptest::sample::select(&[Decode, Slash, Dots, Merge, Parameters, Cut, Nul][..]),
        0..8,
    )
    .prop_filter("decodes as often as is considered", |steps| {
        steps.iter().filter(|step| matches!(step, Decode)).count() <= DECODINGS.into()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn an_application_sees_what_the_policy_allowed(path in paths(), routes in policies(), steps in applications()) {
        let allowed = decide(&routes, &path, 0);
        let holds = !is_ambiguous(&path)
            || all_readings(&path, |reading, level| decide(&routes, reading, level) == allowed);
        if holds {
            let seen = steps.iter().fold(path.clone().into_bytes(), |path, next| step(&path, *next));
            let seen = String::from_utf8_lossy(&seen);
            prop_assert_eq!(decide(&routes, &seen, 0), allowed, "{} is seen as {} by {:?}", path, seen, steps);
        }
    }
}
