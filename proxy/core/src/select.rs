//! Route selection: the best match for HTTP, gRPC, SNI and profiles.
//!
//! Precedence: host (exact over the longer suffix over none), then path (exact over regex over the longer prefix), then
//! more headers, more query parameters, a method; the first in the list wins a tie. Allocates only for a
//! percent-encoded query value that is compared with a regular expression.

use std::borrow::Cow;

use http::{HeaderMap, Method, Uri, header::HOST};
use proxy_model::{
    profile::RequestMatch,
    route::{
        GrpcMatch, HeaderMatch, HeaderValueMatch, HostMatch, HttpMatch, PathMatch, QueryMatch, QueryValueMatch, Route,
        Rule,
    },
};

use crate::path::literal;

/// The parts of a request that decide its route.
#[derive(Copy, Clone, Debug)]
pub struct Head<'a> {
    /// Method.
    pub method: &'a Method,
    /// Path without query.
    pub path: &'a str,
    /// Query without `?`; empty if there is none.
    pub query: &'a str,
    /// Headers.
    pub headers: &'a HeaderMap,
    uri: &'a Uri,
    /// Times that the path was decoded, and so the paths of routes must be.
    decoded: u8,
}

impl<'a> Head<'a> {
    /// Creates the head of a request.
    pub fn new(method: &'a Method, uri: &'a Uri, headers: &'a HeaderMap) -> Self {
        Self {
            method,
            path: uri.path(),
            query: uri.query().unwrap_or(""),
            headers,
            uri,
            decoded: 0,
        }
    }

    /// Returns the head with a reading of its path (see [`crate::path`]), which was decoded so many times.
    pub fn reading<'b>(self, path: &'b str, decoded: u8) -> Head<'b>
    where
        'a: 'b,
    {
        Head { path, decoded, ..self }
    }

    /// Host without port, in any letter case: the URI's, else the `host` header's; empty if the request names none.
    /// Evaluated only if a route matches on hosts.
    pub fn host(&self) -> &'a str {
        let from_header = || {
            self.headers
                .get(HOST)
                .and_then(|host| host.to_str().ok())
                .map_or("", without_port)
        };
        let host = self.uri.host().unwrap_or_else(from_header);
        host.strip_suffix('.').unwrap_or(host)
    }
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Selected route.
#[derive(Debug, PartialEq)]
pub struct Selected<'a, M, T> {
    /// The route.
    pub route: &'a Route<M, T>,
    /// Index of the route in its list.
    pub index: usize,
    /// Its rule.
    pub rule: &'a Rule<M, T>,
    /// Match of the rule; `None` for a rule without matches.
    pub matched: Option<&'a M>,
}

impl<M, T> Copy for Selected<'_, M, T> {}

impl<M, T> Clone for Selected<'_, M, T> {
    fn clone(&self) -> Self {
        *self
    }
}

/// Rank of a match; larger is better, field by field.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Score {
    path: PathScore,
    headers: usize,
    query: usize,
    has_method: bool,
}

impl Score {
    fn from_path(path: PathScore) -> Self {
        Self {
            path,
            headers: 0,
            query: 0,
            has_method: false,
        }
    }
}

#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum HostScore {
    #[default]
    Any,
    Suffix(usize),
    Exact,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PathScore {
    Prefix(usize),
    Regex,
    Exact(usize),
    /// gRPC: length of service, then of method.
    Rpc(usize, usize),
}

/// Returns the best match for an HTTP request.
pub fn http<'a, T>(routes: &'a [Route<HttpMatch, T>], head: &Head<'_>) -> Option<Selected<'a, HttpMatch, T>> {
    best(routes, head, |matches| score_http(matches, head), PathScore::Prefix(0))
}

/// Returns every route that matches an HTTP request, in order, with its first match; hosts don't count.
pub fn every_http<'a, T>(
    routes: &'a [Route<HttpMatch, T>],
    head: &Head<'_>,
) -> impl Iterator<Item = Selected<'a, HttpMatch, T>> {
    let first = move |(index, route): (usize, &'a Route<HttpMatch, T>)| {
        let matches = route
            .rules
            .iter()
            .flat_map(|rule| rule.matches.iter().map(move |m| (rule, m)));
        let mut matches = matches.filter(|(_, matched)| score_http(matched, head).is_some());
        let (rule, matched) = matches.next()?;
        Some(Selected {
            route,
            index,
            rule,
            matched: Some(matched),
        })
    };
    routes.iter().enumerate().filter_map(first)
}

/// Returns the best match for a gRPC request; `None` if it cannot be gRPC (not POST, or not `/service/method`).
pub fn grpc<'a, T>(routes: &'a [Route<GrpcMatch, T>], head: &Head<'_>) -> Option<Selected<'a, GrpcMatch, T>> {
    if head.method != Method::POST {
        return None;
    }
    let (service, method) = head.path.strip_prefix('/')?.split_once('/')?;
    if service.is_empty() || method.is_empty() || method.contains('/') {
        return None;
    }
    best(
        routes,
        head,
        |matches| score_grpc(matches, service, method, head.headers),
        PathScore::Rpc(0, 0),
    )
}

fn best<'a, M, T>(
    routes: &'a [Route<M, T>],
    head: &Head<'_>,
    score: impl Fn(&M) -> Option<Score>,
    everything: PathScore,
) -> Option<Selected<'a, M, T>> {
    let mut best: Option<((HostScore, Score), Selected<'a, M, T>)> = None;
    let mut host = None;
    for (index, route) in routes.iter().enumerate() {
        let at_host = if route.hosts.is_empty() {
            Some(HostScore::Any)
        } else {
            score_hosts(&route.hosts, host.get_or_insert_with(|| head.host()))
        };
        let Some(at_host) = at_host else { continue };
        for rule in &route.rules {
            let mut offer = |score, matched| {
                let score = (at_host, score);
                if best.as_ref().is_none_or(|(than, _)| score > *than) {
                    let selected = Selected {
                        route,
                        index,
                        rule,
                        matched,
                    };
                    best = Some((score, selected));
                }
            };
            if rule.matches.is_empty() {
                offer(Score::from_path(everything), None);
            }
            for matched in &rule.matches {
                if let Some(score) = score(matched) {
                    offer(score, Some(matched));
                }
            }
        }
    }
    best.map(|(_, selected)| selected)
}

/// Rank of the best host in a list; an empty list matches any host.
fn score_hosts(hosts: &[HostMatch], host: &str) -> Option<HostScore> {
    if hosts.is_empty() {
        return Some(HostScore::Any);
    }
    hosts.iter().filter_map(|candidate| score_host(candidate, host)).max()
}

fn score_host(candidate: &HostMatch, host: &str) -> Option<HostScore> {
    match candidate {
        HostMatch::Exact(name) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            name.eq_ignore_ascii_case(host).then_some(HostScore::Exact)
        }
        HostMatch::Suffix(reverse) => {
            let mut labels = host.rsplit('.').filter(|label| !label.is_empty());
            let all = reverse
                .iter()
                .all(|want| labels.next().is_some_and(|label| label.eq_ignore_ascii_case(want)));
            // `*.example.com` does not match `example.com` itself.
            (all && labels.next().is_some()).then(|| HostScore::Suffix(reverse.iter().map(|l| l.len() + 1).sum()))
        }
    }
}

fn score_http(matches: &HttpMatch, head: &Head<'_>) -> Option<Score> {
    if matches.method.as_ref().is_some_and(|method| method != head.method) {
        return None;
    }
    let path = match &matches.path {
        None => PathScore::Prefix(0),
        Some(path) => score_path(path, head)?,
    };
    let holds = matches.headers.iter().all(|h| header_holds(h, head.headers))
        && matches.query.iter().all(|q| query_holds(q, head.query));
    holds.then_some(Score {
        path,
        headers: matches.headers.len(),
        query: matches.query.len(),
        has_method: matches.method.is_some(),
    })
}

fn score_path(candidate: &PathMatch, head: &Head<'_>) -> Option<PathScore> {
    let path = head.path;
    match candidate {
        PathMatch::Exact(exact) => (literal(exact, head.decoded) == path).then_some(PathScore::Exact(exact.len())),
        PathMatch::Regex(pattern) => pattern.is_match(path).then_some(PathScore::Regex),
        PathMatch::Prefix(prefix) => {
            let bare = prefix.strip_suffix('/').unwrap_or(prefix);
            let rest = path.strip_prefix(&*literal(bare, head.decoded))?;
            (rest.is_empty() || rest.starts_with('/')).then_some(PathScore::Prefix(bare.len()))
        }
    }
}

fn score_grpc(matches: &GrpcMatch, service: &str, method: &str, headers: &HeaderMap) -> Option<Score> {
    let part = |want: &Option<String>, have: &str| match want {
        None => Some(0),
        Some(want) => (want == have).then_some(want.len()),
    };
    let path = PathScore::Rpc(part(&matches.service, service)?, part(&matches.method, method)?);
    matches
        .headers
        .iter()
        .all(|h| header_holds(h, headers))
        .then_some(Score {
            headers: matches.headers.len(),
            ..Score::from_path(path)
        })
}

/// Returns true if a value of the header matches.
fn header_holds(want: &HeaderMatch, headers: &HeaderMap) -> bool {
    headers.get_all(&want.name).iter().any(|value| match &want.value {
        HeaderValueMatch::Exact(exact) => value == exact,
        HeaderValueMatch::Regex(pattern) => value.to_str().is_ok_and(|text| pattern.is_match(text)),
    })
}

/// Returns true if a value of the parameter matches.
fn query_holds(want: &QueryMatch, query: &str) -> bool {
    query.split('&').filter(|pair| !pair.is_empty()).any(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        unescaped(name).eq(want.name.bytes())
            && match &want.value {
                QueryValueMatch::Exact(exact) => unescaped(value).eq(exact.bytes()),
                QueryValueMatch::Regex(pattern) => pattern.is_match(&unescaped_text(value)),
            }
    })
}

/// Decodes a form-encoded text to bytes.
fn unescaped(text: &str) -> impl Iterator<Item = u8> + '_ {
    let mut bytes = text.as_bytes();
    std::iter::from_fn(move || {
        let (first, rest) = bytes.split_first()?;
        let hex = |b: &u8| char::from(*b).to_digit(16).map(|digit| digit as u8);
        if let (b'%', [high, low, tail @ ..]) = (first, rest)
            && let (Some(high), Some(low)) = (hex(high), hex(low))
        {
            bytes = tail;
            return Some(high << 4 | low);
        }
        bytes = rest;
        Some(if *first == b'+' { b' ' } else { *first })
    })
}

fn unescaped_text(text: &str) -> Cow<'_, str> {
    if text.contains(['%', '+']) {
        let bytes: Vec<u8> = unescaped(text).collect();
        String::from_utf8_lossy(&bytes).into_owned().into()
    } else {
        text.into()
    }
}

/// Returns the best match for an SNI; a route without hosts matches every connection, even one without a name.
pub fn sni<'a, T>(routes: &'a [Route<(), T>], sni: Option<&str>) -> Option<&'a Route<(), T>> {
    let mut best: Option<(HostScore, &Route<(), T>)> = None;
    for route in routes {
        if let Some(score) = score_hosts(&route.hosts, sni.unwrap_or(""))
            && best.is_none_or(|(than, _)| score > than)
        {
            best = Some((score, route));
        }
    }
    best.map(|(_, route)| route)
}

/// Returns true if a request matches the condition of a profile's route; a route without a condition matches none.
pub fn profile(condition: Option<&RequestMatch>, method: &Method, path: &str) -> bool {
    condition.is_some_and(|condition| holds(condition, method, path))
}

fn holds(condition: &RequestMatch, method: &Method, path: &str) -> bool {
    match condition {
        RequestMatch::All(all) => all.iter().all(|c| holds(c, method, path)),
        RequestMatch::Any(any) => any.iter().any(|c| holds(c, method, path)),
        RequestMatch::Not(not) => !holds(not, method, path),
        RequestMatch::Path(pattern) => pattern.is_match(path),
        RequestMatch::Method(want) => want == method,
    }
}

#[cfg(test)]
mod tests;
