//! `Tap.Observe`: conditions on requests, and their events.
//!
//! On the wire each event names both ends, but only a request's first event has its method and path; [`TapDecoder`]
//! keeps them until the request ends.

use std::{collections::HashMap, sync::Arc};

use http::HeaderMap;
use ipnet::IpNet;
use linkerd2_proxy_api::{
    http_types::{Headers, HttpMethod, Scheme, headers::Header},
    net::IpAddress,
    tap::{
        Eos, ObserveRequest, TapEvent as WireEvent, eos,
        observe_request::{
            Extract, Match as WireMatch, extract,
            r#match::{
                Http, Label, Match, Seq, Tcp,
                http::{Match as HttpMatch, StringMatch, string_match},
                tcp::{self, Netmask, PortRange},
            },
        },
        tap_event::{
            EndpointMeta, Event, Http as HttpEvent, ProxyDirection, RouteMeta,
            http::{Event as HttpEventKind, RequestInit, ResponseEnd, ResponseInit, StreamId},
        },
    },
};
use proxy_model::{
    limits,
    tap::{Direction, StreamEnd, TapEvent, TapEventKind, TapMatch, TapRequest, TcpMatch, TextMatch},
};

use crate::{
    Error, Result,
    error::{each, optional, required},
    filter::decode_scheme,
    net::{
        decode_addr, decode_duration, decode_ip, decode_labels, decode_u16, encode_addr, encode_duration, encode_labels,
    },
    route::decode_method,
};

const DEPTH: usize = limits::MATCH_DEPTH.value;

/// Observation that a client asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// Condition on the requests.
    pub matches: TapMatch,
    /// Number of requests; never 0.
    pub limit: u32,
    /// Include headers and trailers.
    pub headers: bool,
}

/// Decodes the request of `Tap.Observe`. Limit and match are required.
pub fn decode_observe_request(wire: ObserveRequest) -> Result<Observation> {
    if wire.limit == 0 {
        return Err(Error::invalid("limit", "is 0"));
    }
    let wants_headers = |extract: Extract| {
        let Some(extract::Extract::Http(http)) = extract.extract else {
            return false;
        };
        matches!(http.extract, Some(extract::http::Extract::Headers(_)))
    };
    Ok(Observation {
        matches: required("match", wire.r#match, |wire| decode_match(wire, DEPTH))?,
        limit: wire.limit,
        headers: wire.extract.is_some_and(wants_headers),
    })
}

/// Encodes the request of `Tap.Observe`.
pub fn encode_observe_request(observation: &Observation) -> ObserveRequest {
    let headers = || {
        let headers = extract::http::Extract::Headers(extract::http::Headers {});
        Extract {
            extract: Some(extract::Extract::Http(extract::Http { extract: Some(headers) })),
        }
    };
    ObserveRequest {
        limit: observation.limit,
        r#match: Some(encode_match(&observation.matches)),
        extract: observation.headers.then(headers),
    }
}

fn decode_match(wire: WireMatch, depth: usize) -> Result<TapMatch> {
    let deeper = || Error::invalid("match", format_args!("is nested more than {DEPTH} deep"));
    let depth = depth.checked_sub(1).ok_or_else(deeper)?;
    let seq = |seq: Seq| each("matches", seq.matches, |wire| decode_match(wire, depth));
    match wire.r#match.ok_or_else(|| Error::missing("match"))? {
        Match::All(all) => seq(all).map(TapMatch::All),
        Match::Any(any) => seq(any).map(TapMatch::Any),
        Match::Not(not) => decode_match(*not, depth).map(|not| TapMatch::Not(Box::new(not))),
        Match::Source(tcp) => required("source", Some(tcp), decode_tcp).map(TapMatch::Source),
        Match::Destination(tcp) => required("destination", Some(tcp), decode_tcp).map(TapMatch::Destination),
        Match::DestinationLabel(label) => Ok(TapMatch::DestinationLabel(label.key, label.value)),
        Match::RouteLabel(label) => Ok(TapMatch::RouteLabel(label.key, label.value)),
        Match::Http(http) => required("http", http.r#match, decode_http_match),
    }
}

fn decode_http_match(wire: HttpMatch) -> Result<TapMatch> {
    match wire {
        HttpMatch::Scheme(scheme) => decode_scheme(scheme).map(TapMatch::Scheme),
        HttpMatch::Method(method) => decode_method(method).map(TapMatch::Method),
        HttpMatch::Authority(text) => required("authority", text.r#match, decode_text).map(TapMatch::Authority),
        HttpMatch::Path(text) => required("path", text.r#match, decode_text).map(TapMatch::Path),
    }
}

fn encode_match(matches: &TapMatch) -> WireMatch {
    let seq = |matches: &[TapMatch]| Seq {
        matches: matches.iter().map(encode_match).collect(),
    };
    let label = |key: &str, value: &str| Label {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    let http = |kind| Match::Http(Http { r#match: Some(kind) });
    let kind = match matches {
        TapMatch::All(all) => Match::All(seq(all)),
        TapMatch::Any(any) => Match::Any(seq(any)),
        TapMatch::Not(not) => Match::Not(Box::new(encode_match(not))),
        TapMatch::Source(tcp) => Match::Source(encode_tcp(tcp)),
        TapMatch::Destination(tcp) => Match::Destination(encode_tcp(tcp)),
        TapMatch::DestinationLabel(key, value) => Match::DestinationLabel(label(key, value)),
        TapMatch::RouteLabel(key, value) => Match::RouteLabel(label(key, value)),
        TapMatch::Scheme(scheme) => http(HttpMatch::Scheme(Scheme::from(scheme.as_str()))),
        TapMatch::Method(method) => http(HttpMatch::Method(method.clone().into())),
        TapMatch::Authority(text) => http(HttpMatch::Authority(encode_text(text))),
        TapMatch::Path(text) => http(HttpMatch::Path(encode_text(text))),
    };
    WireMatch { r#match: Some(kind) }
}

fn decode_text(wire: string_match::Match) -> Result<TextMatch> {
    Ok(match wire {
        string_match::Match::Exact(text) => TextMatch::Exact(text),
        string_match::Match::Prefix(text) => TextMatch::Prefix(text),
    })
}

fn encode_text(text: &TextMatch) -> StringMatch {
    let text = match text {
        TextMatch::Exact(text) => string_match::Match::Exact(text.clone()),
        TextMatch::Prefix(text) => string_match::Match::Prefix(text.clone()),
    };
    StringMatch { r#match: Some(text) }
}

fn decode_tcp(wire: Tcp) -> Result<TcpMatch> {
    match wire.r#match.ok_or_else(|| Error::missing("match"))? {
        tcp::Match::Ports(ports) => {
            let (min, max) = (decode_u16("ports.min", ports.min)?, decode_u16("ports.max", ports.max)?);
            // A maximum of 0 means the port of the minimum alone.
            let max = if max == 0 { min } else { max };
            if min == 0 || max < min {
                return Err(Error::invalid(
                    "ports",
                    format_args!("{min}-{max} is not a range of ports"),
                ));
            }
            Ok(TcpMatch::Ports(min, max))
        }
        tcp::Match::Netmask(netmask) => {
            let ip = required("netmask.ip", netmask.ip, decode_ip)?;
            let length = u8::try_from(netmask.mask).ok().filter(|length| *length != 0);
            let net = length.and_then(|length| IpNet::new(ip, length).ok());
            net.map(TcpMatch::Net)
                .ok_or_else(|| Error::invalid("netmask.mask", format_args!("{} is not a prefix length", netmask.mask)))
        }
    }
}

fn encode_tcp(tcp: &TcpMatch) -> Tcp {
    let kind = match tcp {
        TcpMatch::Ports(min, max) => tcp::Match::Ports(PortRange {
            min: u32::from(*min),
            max: u32::from(*max),
        }),
        TcpMatch::Net(net) => {
            let ip = Some(IpAddress::from(net.addr()));
            tcp::Match::Netmask(Netmask {
                ip,
                mask: u32::from(net.prefix_len()),
            })
        }
    };
    Tcp { r#match: Some(kind) }
}

/// Encodes one event; `base` is the number of the observation in this process.
pub fn encode_tap_event(event: &TapEvent, base: u32) -> WireEvent {
    let request = &event.request;
    let direction = match request.direction {
        Direction::Inbound => ProxyDirection::Inbound,
        Direction::Outbound => ProxyDirection::Outbound,
    };
    let id = Some(StreamId {
        base,
        stream: event.stream,
    });
    let kind = match &event.kind {
        TapEventKind::RequestInit { headers } => HttpEventKind::RequestInit(RequestInit {
            id,
            method: Some(HttpMethod::from(request.method.clone())),
            scheme: (!request.scheme.is_empty()).then(|| Scheme::from(request.scheme.as_str())),
            authority: request.authority.clone(),
            path: request.path.clone(),
            headers: headers.as_ref().map(encode_headers),
        }),
        TapEventKind::ResponseInit {
            since_request,
            status,
            headers,
        } => HttpEventKind::ResponseInit(ResponseInit {
            id,
            since_request_init: Some(encode_duration(*since_request)),
            http_status: u32::from(*status),
            headers: headers.as_ref().map(encode_headers),
        }),
        TapEventKind::ResponseEnd {
            since_request,
            since_response,
            response_bytes,
            end,
            trailers,
        } => HttpEventKind::ResponseEnd(ResponseEnd {
            id,
            since_request_init: Some(encode_duration(*since_request)),
            since_response_init: Some(encode_duration(*since_response)),
            response_bytes: *response_bytes,
            eos: encode_end(*end),
            trailers: trailers.as_ref().map(encode_headers),
        }),
    };
    WireEvent {
        source: Some(encode_addr(request.source)),
        source_meta: Some(EndpointMeta {
            labels: encode_labels(&request.source_labels),
        }),
        route_meta: Some(RouteMeta {
            labels: encode_labels(&request.route_labels),
        }),
        destination: Some(encode_addr(request.destination)),
        destination_meta: Some(EndpointMeta {
            labels: encode_labels(&request.destination_labels),
        }),
        proxy_direction: direction.into(),
        event: Some(Event::Http(HttpEvent { event: Some(kind) })),
    }
}

fn encode_end(end: StreamEnd) -> Option<Eos> {
    let end = match end {
        StreamEnd::Complete => return None,
        StreamEnd::Grpc(code) => eos::End::GrpcStatusCode(code),
        StreamEnd::Reset(code) => eos::End::ResetErrorCode(code),
    };
    Some(Eos { end: Some(end) })
}

fn decode_end(wire: Option<Eos>) -> StreamEnd {
    match wire.and_then(|eos| eos.end) {
        None => StreamEnd::Complete,
        Some(eos::End::GrpcStatusCode(code)) => StreamEnd::Grpc(code),
        Some(eos::End::ResetErrorCode(code)) => StreamEnd::Reset(code),
    }
}

fn encode_headers(headers: &HeaderMap) -> Headers {
    let one = |(name, value): (&http::HeaderName, &http::HeaderValue)| Header {
        name: name.to_string(),
        value: value.as_bytes().to_owned(),
    };
    Headers {
        headers: headers.iter().map(one).collect(),
    }
}

/// Decodes headers. Pseudo headers repeat the event, and invalid ones cannot be represented; both are left out.
fn decode_headers(wire: Headers) -> HeaderMap {
    let one = |header: Header| {
        let name = header.name.parse::<http::HeaderName>().ok()?;
        let value = http::HeaderValue::from_maybe_shared(bytes::Bytes::from(header.value)).ok()?;
        Some((name, value))
    };
    let mut headers = HeaderMap::new();
    for (name, value) in wire.headers.into_iter().filter_map(one) {
        headers.append(name, value);
    }
    headers
}

fn decode_tap_request(wire: WireEvent, init: RequestInit) -> Result<TapRequest> {
    Ok(TapRequest {
        direction: decode_direction(wire.proxy_direction)?,
        source: required("source", wire.source, decode_addr)?,
        source_labels: Arc::new(decode_labels(wire.source_meta.unwrap_or_default().labels)),
        destination: required("destination", wire.destination, decode_addr)?,
        destination_labels: Arc::new(decode_labels(wire.destination_meta.unwrap_or_default().labels)),
        route_labels: Arc::new(decode_labels(wire.route_meta.unwrap_or_default().labels)),
        method: required("http.request_init", init.method, decode_method)?,
        scheme: optional("http.request_init.scheme", init.scheme, decode_scheme)?.unwrap_or_default(),
        authority: init.authority,
        path: init.path,
    })
}

/// Decodes the events of one `Tap.Observe`.
#[derive(Debug, Default)]
pub struct TapDecoder {
    requests: HashMap<(u32, u64), Arc<TapRequest>>,
    left_out: u64,
}

impl TapDecoder {
    /// Decodes the next event; none for one of a request whose first event is missing.
    pub fn decode(&mut self, mut wire: WireEvent) -> Result<Option<TapEvent>> {
        let Some(Event::Http(HttpEvent { event: Some(event) })) = wire.event.take() else {
            return Err(Error::missing("http.event"));
        };
        let (id, kind) = match event {
            HttpEventKind::RequestInit(mut init) => {
                let id = decode_id(init.id.take())?;
                let headers = init.headers.take().map(decode_headers);
                self.begin(id, decode_tap_request(wire, init)?);
                (id, TapEventKind::RequestInit { headers })
            }
            HttpEventKind::ResponseInit(init) => {
                let kind = TapEventKind::ResponseInit {
                    since_request: decode_since(init.since_request_init)?,
                    status: decode_u16("http.response_init.http_status", init.http_status)?,
                    headers: init.headers.map(decode_headers),
                };
                (decode_id(init.id)?, kind)
            }
            HttpEventKind::ResponseEnd(end) => {
                let kind = TapEventKind::ResponseEnd {
                    since_request: decode_since(end.since_request_init)?,
                    since_response: decode_since(end.since_response_init)?,
                    response_bytes: end.response_bytes,
                    end: decode_end(end.eos),
                    trailers: end.trailers.map(decode_headers),
                };
                (decode_id(end.id)?, kind)
            }
        };
        let request = self.known(id);
        if matches!(kind, TapEventKind::ResponseEnd { .. }) {
            self.requests.remove(&id);
        }
        Ok(request.map(|request| TapEvent {
            request,
            stream: id.1,
            kind,
        }))
    }

    fn begin(&mut self, id: (u32, u64), request: TapRequest) {
        if self.requests.len() < limits::TAP_REQUESTS.value {
            self.requests.insert(id, Arc::new(request));
        }
    }

    /// Events left out because their request's first event is missing, or too many requests are in flight.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    fn known(&mut self, id: (u32, u64)) -> Option<Arc<TapRequest>> {
        let request = self.requests.get(&id).cloned();
        self.left_out += u64::from(request.is_none());
        request
    }
}

fn decode_id(wire: Option<StreamId>) -> Result<(u32, u64)> {
    wire.map(|id| (id.base, id.stream))
        .ok_or_else(|| Error::missing("http.id"))
}

fn decode_since(wire: Option<prost_types::Duration>) -> Result<std::time::Duration> {
    required("http.since_request_init", wire, decode_duration)
}

fn decode_direction(number: i32) -> Result<Direction> {
    match ProxyDirection::try_from(number) {
        Ok(ProxyDirection::Inbound) => Ok(Direction::Inbound),
        Ok(ProxyDirection::Outbound) => Ok(Direction::Outbound),
        _ => Err(Error::invalid(
            "proxy_direction",
            format_args!("{number} is neither inbound nor outbound"),
        )),
    }
}
