//! Linkerd's protobuf of a tap, written by hand: the request that its own command line sends to the aggregated API, and
//! the events that it reads. A message follows its length, four bytes in little-endian order.

use std::{collections::HashMap, net::IpAddr};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use prost::{Message, Oneof};

use crate::{
    TapRequest,
    kind::Resource,
    tap::{self, Peer},
};

/// Media type of these messages.
pub const MESSAGES: &str = "application/octet-stream";

/// Request for a tap.
#[derive(Clone, PartialEq, Message)]
pub struct TapByResourceRequest {
    #[prost(message, optional, tag = "1")]
    pub target: Option<ResourceSelection>,
    #[prost(message, optional, tag = "2")]
    pub matches: Option<Match>,
    /// Requests per second.
    #[prost(float, tag = "3")]
    pub max_rps: f32,
    /// Parts of requests to include besides their heads.
    #[prost(message, optional, tag = "4")]
    pub extract: Option<Extract>,
}

/// Resource with a selector of its pods.
#[derive(Clone, PartialEq, Message)]
pub struct ResourceSelection {
    #[prost(message, optional, tag = "1")]
    pub resource: Option<ResourceName>,
    /// In the syntax of `kubectl -l`.
    #[prost(string, tag = "2")]
    pub label_selector: String,
}

/// Namespace, kind and name of a resource.
#[derive(Clone, PartialEq, Message)]
pub struct ResourceName {
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// Lower case.
    #[prost(string, tag = "2")]
    pub kind: String,
    /// Empty means all.
    #[prost(string, tag = "3")]
    pub name: String,
}

/// Match of requests.
#[derive(Clone, PartialEq, Message)]
pub struct Match {
    #[prost(oneof = "MatchKind", tags = "1, 2, 3, 4, 5")]
    pub kind: Option<MatchKind>,
}

/// Forms of a match.
#[derive(Clone, PartialEq, Oneof)]
pub enum MatchKind {
    /// Every one of them.
    #[prost(message, tag = "1")]
    All(MatchSeq),
    /// At least one of them.
    #[prost(message, tag = "2")]
    Any(MatchSeq),
    /// Not this.
    #[prost(message, boxed, tag = "3")]
    Not(Box<Match>),
    /// Requests to a destination.
    #[prost(message, tag = "4")]
    Destinations(ResourceSelection),
    /// By the head of the request.
    #[prost(message, tag = "5")]
    Http(HttpMatch),
}

/// Several matches.
#[derive(Clone, PartialEq, Message)]
pub struct MatchSeq {
    #[prost(message, repeated, tag = "1")]
    pub matches: Vec<Match>,
}

/// Match by the head of a request.
#[derive(Clone, PartialEq, Message)]
pub struct HttpMatch {
    #[prost(oneof = "HttpMatchKind", tags = "1, 2, 3, 4")]
    pub kind: Option<HttpMatchKind>,
}

/// Parts of a head that can be matched.
#[derive(Clone, PartialEq, Oneof)]
pub enum HttpMatchKind {
    #[prost(string, tag = "1")]
    Scheme(String),
    #[prost(string, tag = "2")]
    Method(String),
    #[prost(string, tag = "3")]
    Authority(String),
    /// Prefix of the path.
    #[prost(string, tag = "4")]
    Path(String),
}

/// Request for headers by its presence; its fields have no other value.
#[derive(Clone, PartialEq, Message)]
pub struct Extract {}

/// Error of decoding a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// Not protobuf.
    #[error("invalid TapByResourceRequest: {0}")]
    Message(String),
    /// Missing or unreadable field.
    #[error("invalid field {field}: {reason}")]
    Field { field: &'static str, reason: String },
}

fn invalid(field: &'static str, reason: impl ToString) -> InvalidRequest {
    InvalidRequest::Field {
        field,
        reason: reason.to_string(),
    }
}

/// Decodes a request, with its length in front or without.
pub fn decode(body: &[u8]) -> Result<TapRequest, InvalidRequest> {
    let body = match body.split_first_chunk::<4>() {
        Some((length, rest)) if u32::from_le_bytes(*length) as usize == rest.len() => rest,
        _ => body,
    };
    let wire = TapByResourceRequest::decode(body).map_err(|error| InvalidRequest::Message(error.to_string()))?;
    let target = wire.target.unwrap_or_default();
    let (resource, namespace) = named("target.resource", target.resource.unwrap_or_default())?;
    let mut request = TapRequest {
        namespace,
        labels: Some(target.label_selector).filter(|labels| !labels.is_empty()),
        max_rps: (wire.max_rps >= 1.0).then_some(wire.max_rps as u32),
        headers: wire.extract.is_some(),
        ..TapRequest::new(resource)
    };
    match wire.matches.and_then(|m| m.kind) {
        None => {}
        Some(MatchKind::All(all)) => all.matches.into_iter().try_for_each(|m| add_match(&mut request, m))?,
        Some(one) => add_match(&mut request, Match { kind: Some(one) })?,
    }
    Ok(request)
}

fn named(field: &'static str, wire: ResourceName) -> Result<(Resource, Option<String>), InvalidRequest> {
    let kind = wire.kind.parse().map_err(|error| invalid(field, error))?;
    let name = Some(wire.name).filter(|name| !name.is_empty());
    Ok((
        Resource { kind, name },
        Some(wire.namespace).filter(|ns| !ns.is_empty()),
    ))
}

fn add_match(request: &mut TapRequest, one: Match) -> Result<(), InvalidRequest> {
    let field = "match";
    match one.kind.ok_or_else(|| invalid(field, "empty"))? {
        MatchKind::Destinations(to) => {
            let (resource, namespace) = named("match.destinations", to.resource.unwrap_or_default())?;
            (request.to, request.to_namespace) = (Some(resource), namespace);
        }
        MatchKind::Http(http) => match http.kind.ok_or_else(|| invalid(field, "empty"))? {
            HttpMatchKind::Scheme(text) => request.scheme = Some(text),
            HttpMatchKind::Method(text) => request.method = Some(text),
            HttpMatchKind::Authority(text) => request.authority = Some(text),
            HttpMatchKind::Path(text) => request.path = Some(text),
        },
        MatchKind::All(_) | MatchKind::Any(_) | MatchKind::Not(_) => {
            return Err(invalid(
                field,
                "only a single list of conditions that must all hold is supported",
            ));
        }
    }
    Ok(())
}

/// An event.
#[derive(Clone, PartialEq, Message)]
pub struct Event {
    #[prost(message, optional, tag = "1")]
    source: Option<TcpAddress>,
    #[prost(message, optional, tag = "2")]
    destination: Option<TcpAddress>,
    #[prost(message, optional, tag = "3")]
    http: Option<Http>,
    #[prost(message, optional, tag = "4")]
    destination_meta: Option<Meta>,
    #[prost(message, optional, tag = "5")]
    source_meta: Option<Meta>,
    #[prost(int32, tag = "6")]
    proxy_direction: i32,
    #[prost(message, optional, tag = "7")]
    route_meta: Option<Meta>,
}

#[derive(Clone, PartialEq, Message)]
struct TcpAddress {
    #[prost(message, optional, tag = "1")]
    ip: Option<Ip>,
    #[prost(uint32, tag = "2")]
    port: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Ip {
    #[prost(oneof = "IpKind", tags = "1, 2")]
    kind: Option<IpKind>,
}

#[derive(Clone, PartialEq, Oneof)]
enum IpKind {
    #[prost(fixed32, tag = "1")]
    V4(u32),
    #[prost(message, tag = "2")]
    V6(Ipv6),
}

#[derive(Clone, PartialEq, Message)]
struct Ipv6 {
    #[prost(fixed64, tag = "1")]
    first: u64,
    #[prost(fixed64, tag = "2")]
    last: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Meta {
    #[prost(map = "string, string", tag = "1")]
    labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct Http {
    #[prost(oneof = "HttpKind", tags = "1, 2, 3")]
    kind: Option<HttpKind>,
}

#[derive(Clone, PartialEq, Oneof)]
enum HttpKind {
    #[prost(message, tag = "1")]
    RequestInit(RequestInit),
    #[prost(message, tag = "2")]
    ResponseInit(ResponseInit),
    #[prost(message, tag = "3")]
    ResponseEnd(ResponseEnd),
}

#[derive(Clone, PartialEq, Message)]
struct StreamId {
    #[prost(uint32, tag = "1")]
    base: u32,
    #[prost(uint64, tag = "2")]
    stream: u64,
}

#[derive(Clone, PartialEq, Message)]
struct RequestInit {
    #[prost(message, optional, tag = "1")]
    id: Option<StreamId>,
    #[prost(message, optional, tag = "2")]
    method: Option<Registered>,
    #[prost(message, optional, tag = "3")]
    scheme: Option<Registered>,
    #[prost(string, tag = "4")]
    authority: String,
    #[prost(string, tag = "5")]
    path: String,
    #[prost(message, optional, tag = "6")]
    headers: Option<Headers>,
}

#[derive(Clone, PartialEq, Message)]
struct ResponseInit {
    #[prost(message, optional, tag = "1")]
    id: Option<StreamId>,
    #[prost(message, optional, tag = "2")]
    since_request_init: Option<Duration>,
    #[prost(uint32, tag = "3")]
    http_status: u32,
    #[prost(message, optional, tag = "4")]
    headers: Option<Headers>,
}

#[derive(Clone, PartialEq, Message)]
struct ResponseEnd {
    #[prost(message, optional, tag = "1")]
    id: Option<StreamId>,
    #[prost(message, optional, tag = "2")]
    since_request_init: Option<Duration>,
    #[prost(message, optional, tag = "3")]
    since_response_init: Option<Duration>,
    #[prost(uint64, tag = "4")]
    response_bytes: u64,
    #[prost(message, optional, tag = "5")]
    eos: Option<Eos>,
    #[prost(message, optional, tag = "6")]
    trailers: Option<Headers>,
}

#[derive(Clone, PartialEq, Message)]
struct Duration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Eos {
    #[prost(oneof = "EosKind", tags = "1, 2")]
    kind: Option<EosKind>,
}

#[derive(Clone, PartialEq, Oneof)]
enum EosKind {
    #[prost(uint32, tag = "1")]
    Grpc(u32),
    #[prost(uint32, tag = "2")]
    Reset(u32),
}

/// Method or scheme: by number if it is a common one.
#[derive(Clone, PartialEq, Message)]
struct Registered {
    #[prost(oneof = "RegisteredKind", tags = "1, 2")]
    kind: Option<RegisteredKind>,
}

#[derive(Clone, PartialEq, Oneof)]
enum RegisteredKind {
    #[prost(int32, tag = "1")]
    Known(i32),
    #[prost(string, tag = "2")]
    Other(String),
}

#[derive(Clone, PartialEq, Message)]
struct Headers {
    #[prost(message, repeated, tag = "1")]
    headers: Vec<Header>,
}

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(oneof = "HeaderValue", tags = "2, 3")]
    value: Option<HeaderValue>,
}

#[derive(Clone, PartialEq, Oneof)]
enum HeaderValue {
    #[prost(string, tag = "2")]
    Text(String),
    #[prost(bytes, tag = "3")]
    Bytes(Vec<u8>),
}

const METHODS: [&str; 9] = [
    "GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "HEAD", "TRACE",
];
const SCHEMES: [&str; 2] = ["http", "https"];

/// Encodes an event, its length in front.
pub fn encode(event: &tap::TapEvent) -> Vec<u8> {
    let message = Event::from(event).encode_to_vec();
    let mut out = (message.len() as u32).to_le_bytes().to_vec();
    out.extend(message);
    out
}

impl From<&tap::TapEvent> for Event {
    fn from(event: &tap::TapEvent) -> Self {
        let init = event
            .request_init_event
            .as_ref()
            .map(|e| HttpKind::RequestInit(e.into()));
        let response = event.response_init_event.as_ref();
        let end = event.response_end_event.as_ref();
        let kind = init
            .or_else(|| response.map(|e| HttpKind::ResponseInit(e.into())))
            .or_else(|| end.map(|e| HttpKind::ResponseEnd(e.into())));
        Self {
            source: event.source.as_ref().and_then(address),
            destination: event.destination.as_ref().and_then(address),
            http: Some(Http { kind }),
            source_meta: Some(meta(event.source.iter().flat_map(|peer| &peer.metadata))),
            destination_meta: Some(meta(event.destination.iter().flat_map(|peer| &peer.metadata))),
            proxy_direction: match event.proxy_direction.as_str() {
                "INBOUND" => 1,
                "OUTBOUND" => 2,
                _ => 0,
            },
            route_meta: Some(meta(event.route_meta.iter())),
        }
    }
}

fn meta<'a>(labels: impl Iterator<Item = (&'a String, &'a String)>) -> Meta {
    Meta {
        labels: labels.map(|(key, value)| (key.clone(), value.clone())).collect(),
    }
}

fn address(peer: &Peer) -> Option<TcpAddress> {
    let kind = match peer.ip.parse().ok()? {
        IpAddr::V4(ip) => IpKind::V4(ip.into()),
        IpAddr::V6(ip) => IpKind::V6(Ipv6 {
            first: (u128::from(ip) >> 64) as u64,
            last: u128::from(ip) as u64,
        }),
    };
    Some(TcpAddress {
        ip: Some(Ip { kind: Some(kind) }),
        port: peer.port.into(),
    })
}

fn id(id: tap::StreamId) -> Option<StreamId> {
    Some(StreamId {
        base: id.base,
        stream: id.stream,
    })
}

fn duration(nanos: u64) -> Option<Duration> {
    Some(Duration {
        seconds: (nanos / 1_000_000_000) as i64,
        nanos: (nanos % 1_000_000_000) as i32,
    })
}

fn registered(text: &str, known: &[&str]) -> Option<Registered> {
    let number = known.iter().position(|name| name.eq_ignore_ascii_case(text));
    let kind = number.map_or_else(
        || RegisteredKind::Other(text.to_owned()),
        |number| RegisteredKind::Known(number as i32),
    );
    (!text.is_empty()).then_some(Registered { kind: Some(kind) })
}

fn headers(headers: &[tap::Header]) -> Option<Headers> {
    let header = |header: &tap::Header| {
        let bytes = || BASE64_STANDARD.decode(header.value_bin.as_deref()?).ok();
        let text = header.value_str.clone().map(HeaderValue::Text);
        Header {
            name: header.name.clone(),
            value: text.or_else(|| bytes().map(HeaderValue::Bytes)),
        }
    };
    let headers: Vec<_> = headers.iter().map(header).collect();
    (!headers.is_empty()).then_some(Headers { headers })
}

impl From<&tap::RequestInit> for RequestInit {
    fn from(init: &tap::RequestInit) -> Self {
        Self {
            id: id(init.id),
            method: registered(&init.method, &METHODS),
            scheme: registered(&init.scheme, &SCHEMES),
            authority: init.authority.clone(),
            path: init.path.clone(),
            headers: headers(&init.headers),
        }
    }
}

impl From<&tap::ResponseInit> for ResponseInit {
    fn from(init: &tap::ResponseInit) -> Self {
        Self {
            id: id(init.id),
            since_request_init: duration(init.since_request_init),
            http_status: init.http_status.into(),
            headers: headers(&init.headers),
        }
    }
}

impl From<&tap::ResponseEnd> for ResponseEnd {
    fn from(end: &tap::ResponseEnd) -> Self {
        let grpc = end.grpc_status_code.map(EosKind::Grpc);
        let kind = grpc.or_else(|| end.reset_error_code.map(EosKind::Reset));
        Self {
            id: id(end.id),
            since_request_init: duration(end.since_request_init),
            since_response_init: duration(end.since_response_init),
            response_bytes: end.response_bytes,
            eos: kind.map(|kind| Eos { kind: Some(kind) }),
            trailers: headers(&end.trailers),
        }
    }
}

#[cfg(test)]
mod tests;
