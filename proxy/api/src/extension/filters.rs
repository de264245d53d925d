//! Filters that their kind of route lacks on the wire, each with its place. Other proxies see what the encoder of the
//! route puts there instead, a failure or nothing (`filter.rs`).

use std::sync::Arc;

use linkerd2_proxy_api::{
    http_route::{PathModifier as WirePath, Ratio as WireRatio, ResponseHeaderModifier},
    outbound::Backend as WireBackend,
};
use prost::{Message, Oneof};
use proxy_model::{
    ClientPolicy, ClientProtocol, ServerPolicy, ServerProtocol, inbound, limits,
    outbound::{self, RouteBackend},
    route::{Filter, Mirror, Rewrite, Route, Rule},
};

use crate::{
    Error, Result,
    backend::{decode_backend, encode_backend},
    error::{optional, required},
    filter::{
        self, decode_path_modifier, decode_ratio, decode_response_headers, encode_path_modifier, encode_ratio,
        encode_response_headers, is_left_out,
    },
};

/// A filter and its place.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ExtraFilter {
    /// List of routes: a policy that detects HTTP has two, for HTTP/1 and HTTP/2.
    #[prost(uint32, tag = "1")]
    list: u32,
    #[prost(uint32, tag = "2")]
    route: u32,
    #[prost(uint32, tag = "3")]
    rule: u32,
    /// Backend of the rule; the filter is the rule's own without one.
    #[prost(uint32, optional, tag = "4")]
    backend: Option<u32>,
    /// Position among all filters there.
    #[prost(uint32, tag = "5")]
    position: u32,
    /// It takes the place of a filter that other proxies see; else that place is its own.
    #[prost(bool, tag = "6")]
    replaces: bool,
    #[prost(oneof = "Kind", tags = "7, 8, 9")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Kind {
    #[prost(message, tag = "7")]
    ResponseHeaders(ResponseHeaderModifier),
    #[prost(message, tag = "8")]
    Rewrite(WireRewrite),
    #[prost(message, boxed, tag = "9")]
    Mirror(Box<WireMirror>),
}

#[derive(Clone, PartialEq, Message)]
struct WireRewrite {
    #[prost(string, optional, tag = "1")]
    host: Option<String>,
    #[prost(message, optional, tag = "2")]
    path: Option<WirePath>,
}

#[derive(Clone, PartialEq, Message)]
struct WireMirror {
    #[prost(message, optional, tag = "1")]
    backend: Option<WireBackend>,
    /// Share of the requests; all by default.
    #[prost(message, optional, tag = "2")]
    ratio: Option<WireRatio>,
}

/// Place of a list of filters.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    list: u32,
    route: u32,
    rule: u32,
    backend: Option<u32>,
}

impl Place {
    fn from_extra(extra: &ExtraFilter) -> Self {
        Self {
            list: extra.list,
            route: extra.route,
            rule: extra.rule,
            backend: extra.backend,
        }
    }
}

/// Tells whether a kind of route has a filter.
type Has = fn(&Filter) -> bool;

/// A policy, as lists of filters.
pub(super) trait Filtered {
    /// Visits the lists of filters in the order of their places.
    fn visit(&self, visit: &mut dyn FnMut(Place, Has, &[Filter]));

    /// Returns the list of filters at a place.
    fn at(&mut self, place: Place) -> Option<&mut Vec<Filter>>;
}

impl Filtered for ClientPolicy {
    fn visit(&self, visit: &mut dyn FnMut(Place, Has, &[Filter])) {
        match &self.protocol {
            ClientProtocol::Detect { http1, http2, .. } => {
                visit_routes(0, &http1.routes, filter::outbound_http::has, visit);
                visit_routes(1, &http2.routes, filter::outbound_http::has, visit);
            }
            ClientProtocol::Http1(http) | ClientProtocol::Http2(http) => {
                visit_routes(0, &http.routes, filter::outbound_http::has, visit);
            }
            ClientProtocol::Grpc(grpc) => visit_routes(0, &grpc.routes, filter::outbound_grpc::has, visit),
            ClientProtocol::Opaque(_) | ClientProtocol::Tls(_) => {}
        }
    }

    fn at(&mut self, place: Place) -> Option<&mut Vec<Filter>> {
        match (&mut self.protocol, place.list) {
            (ClientProtocol::Detect { http1, .. }, 0) => at(&mut http1.routes, place),
            (ClientProtocol::Detect { http2, .. }, 1) => at(&mut http2.routes, place),
            (ClientProtocol::Http1(http) | ClientProtocol::Http2(http), 0) => at(&mut http.routes, place),
            (ClientProtocol::Grpc(grpc), 0) => at(&mut grpc.routes, place),
            _ => None,
        }
    }
}

impl Filtered for ServerPolicy {
    fn visit(&self, visit: &mut dyn FnMut(Place, Has, &[Filter])) {
        match &self.protocol {
            ServerProtocol::Detect { routes, .. }
            | ServerProtocol::Http1 { routes, .. }
            | ServerProtocol::Http2 { routes, .. } => visit_routes(0, routes, filter::inbound_http::has, visit),
            ServerProtocol::Grpc { routes } => visit_routes(0, routes, filter::inbound_grpc::has, visit),
            ServerProtocol::Opaque | ServerProtocol::Tls => {}
        }
    }

    fn at(&mut self, place: Place) -> Option<&mut Vec<Filter>> {
        match (&mut self.protocol, place.list) {
            (
                ServerProtocol::Detect { routes, .. }
                | ServerProtocol::Http1 { routes, .. }
                | ServerProtocol::Http2 { routes, .. },
                0,
            ) => at(routes, place),
            (ServerProtocol::Grpc { routes }, 0) => at(routes, place),
            _ => None,
        }
    }
}

/// Action of a rule, which may lead to backends.
trait Leads {
    fn backend(&self, index: usize) -> Option<&RouteBackend>;

    fn backend_mut(&mut self, index: usize) -> Option<&mut RouteBackend>;
}

impl Leads for inbound::Action {
    fn backend(&self, _: usize) -> Option<&RouteBackend> {
        None
    }

    fn backend_mut(&mut self, _: usize) -> Option<&mut RouteBackend> {
        None
    }
}

impl Leads for outbound::Action {
    fn backend(&self, index: usize) -> Option<&RouteBackend> {
        self.distribution.backend(index)
    }

    fn backend_mut(&mut self, index: usize) -> Option<&mut RouteBackend> {
        self.distribution.backend_mut(index)
    }
}

fn visit_routes<M, T: Leads>(
    list: u32,
    routes: &[Route<M, T>],
    has: Has,
    visit: &mut dyn FnMut(Place, Has, &[Filter]),
) {
    for (route, found) in (0..).zip(routes) {
        for (rule, Rule { filters, action, .. }) in (0..).zip(&found.rules) {
            let own = Place {
                list,
                route,
                rule,
                backend: None,
            };
            visit(own, has, filters);
            let backends = (0..).map_while(|index| action.backend(index));
            for (backend, found) in (0..).zip(backends) {
                let backend = Some(backend);
                visit(Place { backend, ..own }, has, &found.filters);
            }
        }
    }
}

fn at<M, T: Leads>(routes: &mut [Route<M, T>], place: Place) -> Option<&mut Vec<Filter>> {
    let rule = routes
        .get_mut(place.route as usize)?
        .rules
        .get_mut(place.rule as usize)?;
    match place.backend {
        None => Some(&mut rule.filters),
        Some(backend) => Some(&mut rule.action.backend_mut(backend as usize)?.filters),
    }
}

/// Encodes the filters of a policy that their kind of route lacks, in the order of their places.
pub(super) fn encode(policy: &impl Filtered) -> Vec<ExtraFilter> {
    let mut extras = Vec::new();
    policy.visit(&mut |place, has, filters| {
        for (position, filter) in (0..).zip(filters) {
            let kind = if has(filter) { None } else { encode_kind(filter) };
            if kind.is_some() {
                extras.push(ExtraFilter {
                    list: place.list,
                    route: place.route,
                    rule: place.rule,
                    backend: place.backend,
                    position,
                    replaces: !is_left_out(filter),
                    kind,
                });
            }
        }
    });
    extras
}

/// Puts filters in their places, which must ascend: each list is then put together once.
pub(super) fn decode(extras: Vec<ExtraFilter>, policy: &mut impl Filtered) -> Result<()> {
    let unordered = || Error::invalid("", "are not in the order of their places");
    let mut extras = extras.into_iter().peekable();
    let mut last = None;
    while let Some(place) = extras.peek().map(Place::from_extra) {
        if last.replace(place).is_some_and(|last| place <= last) {
            return Err(unordered());
        }
        let nowhere = || Error::invalid("", format_args!("have one that belongs nowhere: {place:?}"));
        let list = policy.at(place).ok_or_else(nowhere)?;
        let mut known = std::mem::take(list).into_iter();
        while let Some(extra) = extras.next_if(|extra| Place::from_extra(extra) == place) {
            let position = extra.position as usize;
            if list.len() > position {
                return Err(unordered());
            }
            list.extend(known.by_ref().take(position - list.len()));
            let replaced = !extra.replaces || known.next().is_some();
            if list.len() < position || !replaced {
                return Err(nowhere());
            }
            list.push(decode_kind(extra.kind)?);
        }
        list.extend(known);
        if list.len() > limits::OBJECT_PARTS.value {
            return Err(Error::invalid("", format_args!("are too many at {place:?}")));
        }
    }
    Ok(())
}

fn encode_kind(filter: &Filter) -> Option<Kind> {
    match filter {
        Filter::ResponseHeaders(modifier) => Some(Kind::ResponseHeaders(encode_response_headers(modifier))),
        Filter::Rewrite(rewrite) => Some(Kind::Rewrite(WireRewrite {
            host: rewrite.host.clone(),
            path: rewrite.path.as_ref().map(encode_path_modifier),
        })),
        Filter::Mirror(mirror) => Some(Kind::Mirror(Box::new(WireMirror {
            backend: Some(encode_backend(&mirror.backend)),
            ratio: encode_ratio(mirror.ratio),
        }))),
        Filter::RequestHeaders(_)
        | Filter::Redirect(_)
        | Filter::FailHttp { .. }
        | Filter::FailGrpc { .. }
        | Filter::Forbidden
        | Filter::Invalid(_) => None,
    }
}

fn decode_kind(wire: Option<Kind>) -> Result<Filter> {
    match wire.ok_or_else(|| Error::missing("kind"))? {
        Kind::ResponseHeaders(modifier) => decode_response_headers(modifier),
        Kind::Rewrite(WireRewrite { host, path }) => Ok(Filter::Rewrite(Rewrite {
            host,
            path: optional("path", path, decode_path_modifier)?,
        })),
        Kind::Mirror(wire) => Ok(Filter::Mirror(Mirror {
            backend: Arc::new(required("backend", wire.backend, decode_backend)?),
            ratio: decode_ratio(wire.ratio)?,
        })),
    }
}

#[cfg(test)]
mod tests {
    use proxy_model::{
        Backend, Meta,
        outbound::{Action, Distribution, Grpc},
        route::{HeaderModifier, Ratio, Timeouts},
    };

    use super::*;
    use crate::{
        extension::{decode_whole_client_policy, encode_whole_client_policy, read_whole_client_policy},
        outbound::{decode_client_policy, encode_client_policy},
    };

    fn policy(filters: Vec<Filter>, of_backend: Vec<Filter>) -> ClientPolicy {
        let queue = outbound::Queue {
            capacity: 1,
            failfast_timeout: None,
        };
        let backend = Backend {
            meta: Meta::default_named("web"),
            dispatch: None,
            queue: Some(queue),
        };
        let backend = RouteBackend {
            backend: Arc::new(backend),
            filters: of_backend,
        };
        let action = Action {
            distribution: Distribution::RandomAvailable(vec![(backend, 1)]),
            timeouts: Timeouts::default(),
            retry: None,
            allow_l5d_request_headers: false,
        };
        let rule = Rule {
            matches: vec![],
            filters,
            action,
        };
        let route = Route {
            meta: Meta::default_named("web"),
            hosts: vec![],
            rules: vec![rule],
            authorizations: vec![],
        };
        let grpc = Grpc {
            routes: vec![route],
            failure_accrual: None,
        };
        ClientPolicy {
            meta: Meta::default_named("web"),
            protocol: ClientProtocol::Grpc(grpc),
            targets: None,
        }
    }

    fn response() -> Filter {
        Filter::ResponseHeaders(HeaderModifier::default())
    }

    fn request() -> Filter {
        Filter::RequestHeaders(HeaderModifier::default())
    }

    fn rewrite() -> Filter {
        Filter::Rewrite(Rewrite::default())
    }

    #[test]
    fn filters_keep_their_places_and_another_proxy_sees_failures_or_nothing() {
        let whole = policy(vec![response(), request(), rewrite(), response()], vec![response()]);
        let bytes = encode_whole_client_policy(&whole);
        let read = read_whole_client_policy(bytes.into()).expect("protobuf");
        assert_eq!(decode_whole_client_policy(read), Ok(whole.clone()));
        let theirs = decode_client_policy(encode_client_policy(&whole));
        let fails = Filter::FailGrpc {
            code: 13,
            message: "this proxy cannot rewrite a URL".into(),
            ratio: Ratio::ALL,
        };
        assert_eq!(theirs, Ok(policy(vec![request(), fails], vec![])));
    }

    #[test]
    fn a_policy_without_such_filters_has_no_extension() {
        let plain = policy(vec![request()], vec![request()]);
        assert_eq!(
            encode_whole_client_policy(&plain),
            encode_client_policy(&plain).encode_to_vec()
        );
    }

    type Change<'a> = &'a dyn Fn(&mut Vec<ExtraFilter>);

    #[test]
    fn filters_that_belong_nowhere_are_rejected() {
        let whole = policy(vec![request(), response()], vec![response()]);
        let fine = encode(&whole);
        let decoded = |change: Change<'_>| {
            let mut policy = policy(vec![request()], vec![]);
            let mut extras = fine.clone();
            change(&mut extras);
            decode(extras, &mut policy).map(|()| policy)
        };
        assert_eq!(decoded(&|_| {}), Ok(whole.clone()));
        let changes: [Change<'_>; 8] = [
            &|extras| extras.reverse(),
            &|extras| extras.extend_from_within(..),
            &|extras| extras[0].list = 1,
            &|extras| extras[0].route = 1,
            &|extras| extras[0].rule = 1,
            &|extras| extras[1].backend = Some(1),
            &|extras| extras[0].position = 2,
            &|extras| extras[1].replaces = true,
        ];
        for (at, change) in changes.into_iter().enumerate() {
            assert!(decoded(change).is_err(), "{at}");
        }
        let many = |extras: &mut Vec<ExtraFilter>| {
            let first = extras[0].clone();
            let positions = 0..=limits::OBJECT_PARTS.value as u32;
            *extras = positions
                .map(|position| ExtraFilter {
                    position,
                    ..first.clone()
                })
                .collect();
        };
        assert!(decoded(&many).is_err());
    }
}
