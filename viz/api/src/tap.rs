//! Events of a tap, in the form of Linkerd's `viz tap -o json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Event in the life of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TapEvent {
    /// Client.
    pub source: Option<Peer>,
    /// Server.
    pub destination: Option<Peer>,
    /// Labels of the route.
    #[serde(default)]
    pub route_meta: BTreeMap<String, String>,
    /// `INBOUND` or `OUTBOUND`: side of the proxy that saw it.
    pub proxy_direction: String,
    /// Head of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_init_event: Option<RequestInit>,
    /// Head of the response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_init_event: Option<ResponseInit>,
    /// End of the response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_end_event: Option<ResponseEnd>,
    /// Pod whose proxy reported it, `namespace/name`.
    #[serde(default)]
    pub pod: String,
    /// Events lost before this one because the reader was too slow.
    #[serde(default)]
    pub dropped: u64,
}

/// One end of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Address.
    pub ip: String,
    pub port: u16,
    /// Labels.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// Identifier of a request.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StreamId {
    /// Observation.
    pub base: u32,
    /// Request in the observation.
    pub stream: u64,
}

/// A header with its value as text, or as Base64 if it is not text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_str: Option<String>,
    /// Base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_bin: Option<String>,
}

/// Head of the request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestInit {
    pub id: StreamId,
    pub method: String,
    /// Empty if unknown.
    pub scheme: String,
    /// Empty if there is none.
    pub authority: String,
    /// Path with query.
    pub path: String,
    /// Empty unless headers were requested.
    #[serde(default)]
    pub headers: Vec<Header>,
}

/// Head of the response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResponseInit {
    pub id: StreamId,
    /// Time since the head of the request, in nanoseconds.
    pub since_request_init: u64,
    /// Status.
    pub http_status: u16,
    /// Empty unless headers were requested.
    #[serde(default)]
    pub headers: Vec<Header>,
}

/// End of the response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResponseEnd {
    pub id: StreamId,
    /// Time since the head of the request, in nanoseconds.
    pub since_request_init: u64,
    /// Time since the head of the response, in nanoseconds.
    pub since_response_init: u64,
    pub response_bytes: u64,
    /// Empty unless headers were requested.
    #[serde(default)]
    pub trailers: Vec<Header>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc_status_code: Option<u32>,
    /// HTTP/2 error code of a reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_error_code: Option<u32>,
}
