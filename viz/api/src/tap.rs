//! One event of a tap, in the shape of Linkerd's `viz tap -o json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What happened to a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TapEvent {
    /// The client.
    pub source: Option<Peer>,
    /// The server.
    pub destination: Option<Peer>,
    /// Labels of the route.
    #[serde(default)]
    pub route_meta: BTreeMap<String, String>,
    /// `INBOUND` or `OUTBOUND`: which side of the proxy saw it.
    pub proxy_direction: String,
    /// The request's head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_init_event: Option<RequestInit>,
    /// The response's head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_init_event: Option<ResponseInit>,
    /// The response's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_end_event: Option<ResponseEnd>,
    /// The pod whose proxy told of it, `namespace/name`.
    #[serde(default)]
    pub pod: String,
    /// Events lost before this one because somebody was too slow.
    #[serde(default)]
    pub dropped: u64,
}

/// One end of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Address.
    pub ip: String,
    /// Port.
    pub port: u16,
    /// Labels.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// Which request of which observation.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StreamId {
    /// The observation.
    pub base: u32,
    /// The request in it.
    pub stream: u64,
}

/// A header; its value as text, or as Base64 if it is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// Name.
    pub name: String,
    /// Value as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_str: Option<String>,
    /// Value in Base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_bin: Option<String>,
}

/// The request's head.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestInit {
    /// Which request.
    pub id: StreamId,
    /// Method.
    pub method: String,
    /// Scheme; empty if unknown.
    pub scheme: String,
    /// Authority; empty if none.
    pub authority: String,
    /// Path with query.
    pub path: String,
    /// Headers, if they were asked for.
    #[serde(default)]
    pub headers: Vec<Header>,
}

/// The response's head.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResponseInit {
    /// Which request.
    pub id: StreamId,
    /// Time since the request's head, in nanoseconds.
    pub since_request_init: u64,
    /// Status.
    pub http_status: u16,
    /// Headers, if they were asked for.
    #[serde(default)]
    pub headers: Vec<Header>,
}

/// The response's end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResponseEnd {
    /// Which request.
    pub id: StreamId,
    /// Time since the request's head, in nanoseconds.
    pub since_request_init: u64,
    /// Time since the response's head, in nanoseconds.
    pub since_response_init: u64,
    /// Bytes of the response's body.
    pub response_bytes: u64,
    /// Trailers, if headers were asked for.
    #[serde(default)]
    pub trailers: Vec<Header>,
    /// The gRPC status, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc_status_code: Option<u32>,
    /// The HTTP/2 code of a reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_error_code: Option<u32>,
}
