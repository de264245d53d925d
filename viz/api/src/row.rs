//! Rows of answers: Linkerd's keys, then ours.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Running pods, and those of them in the mesh.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meshed {
    /// Pods with a proxy.
    pub meshed: u32,
    /// Running pods.
    pub running: u32,
}

/// Row of a statistic. Figures are none without traffic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatRow {
    /// Namespace; empty for an authority.
    pub namespace: String,
    /// Singular.
    pub kind: String,
    pub name: String,
    /// Share of the requests that succeeded.
    pub success: Option<f64>,
    /// Requests a second.
    pub rps: Option<f64>,
    pub latency_ms_p50: Option<u64>,
    pub latency_ms_p95: Option<u64>,
    pub latency_ms_p99: Option<u64>,
    /// Connections open now.
    pub tcp_open_connections: Option<u64>,
    /// Bytes read a second.
    pub tcp_read_bytes_rate: Option<f64>,
    /// Bytes written a second.
    pub tcp_write_bytes_rate: Option<f64>,
    /// Service that clients name, of a split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apex: Option<String>,
    /// Service that the split sends to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaf: Option<String>,
    /// Weight, as the split writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<String>,
    /// Phase of a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// None for kinds that own no pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meshed: Option<Meshed>,
    /// Share of the requests that came over mutual TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secured: Option<f64>,
    /// Requests that succeeded in the time covered.
    pub successes: u64,
    /// Requests that failed in the time covered.
    pub failures: u64,
    /// Time that the samples of this row cover, in milliseconds.
    pub covered_ms: u64,
}

/// Client and server of connections, and their protection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeRow {
    /// Client.
    pub src: String,
    /// Its namespace.
    pub src_namespace: String,
    /// Server.
    pub dst: String,
    /// Its namespace.
    pub dst_namespace: String,
    /// Identity of the client.
    pub client_id: String,
    /// Identity of the server.
    pub server_id: String,
    /// Reason why there is no mutual TLS; empty if there is.
    pub no_tls_reason: String,
    /// Set if the server's own proxy has counted a connection under this client identity.
    pub client_id_witnessed: bool,
    /// Connections open now.
    pub open_connections: u64,
}

/// A pod as mesh-viz sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRow {
    pub namespace: String,
    pub name: String,
    /// Address, once it has one.
    pub ip: Option<IpAddr>,
    /// Outermost owner, `kind/name`.
    pub owner: Option<String>,
    /// Phase.
    pub status: String,
    pub ready: bool,
    pub meshed: bool,
    /// Age of the last good scrape, in milliseconds.
    pub scrape_age_ms: Option<u64>,
    /// Error of the last scrape, if it failed.
    pub scrape_error: Option<String>,
}

/// Value of `authorization` for requests that were denied.
pub const UNAUTHORIZED: &str = "[UNAUTHORIZED]";
/// Value of `route` for requests that no route matches.
pub const DEFAULT_ROUTE: &str = "[DEFAULT]";

/// Route of a Service. Figures are none without traffic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteRow {
    /// Namespace of the resource.
    pub namespace: String,
    /// Kind of the resource.
    pub kind: String,
    /// Name of the resource.
    pub name: String,
    /// [`DEFAULT_ROUTE`] for requests that match none.
    pub route: String,
    /// Service.
    pub authority: String,
    /// Namespace of the Service.
    pub authority_namespace: String,
    /// Kind that declares it: `serviceprofile`, `httproute`, `grpcroute`; empty for [`DEFAULT_ROUTE`] without one.
    pub route_kind: String,
    /// Share of the requests that succeeded, as clients saw them.
    pub success: Option<f64>,
    /// Requests a second.
    pub rps: Option<f64>,
    pub latency_ms_p50: Option<u64>,
    pub latency_ms_p95: Option<u64>,
    pub latency_ms_p99: Option<u64>,
    /// With `to`, the same as `success`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_success: Option<f64>,
    /// With `to`, the same as `rps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_rps: Option<f64>,
    /// With `to`: share of the attempts, retries included, that succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual_success: Option<f64>,
    /// With `to`: attempts a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual_rps: Option<f64>,
    /// Time that the samples of this row cover, in milliseconds.
    pub covered_ms: u64,
}

/// Authorization of a route of a Server. Figures are none without traffic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AuthzRow {
    pub namespace: String,
    /// Name of the route, or of a default one (`default`, `probe`).
    pub route: String,
    /// Server, or `default:POLICY` without one, and its port.
    pub server: String,
    /// `kind/name` of the authorization, or [`UNAUTHORIZED`].
    pub authorization: String,
    /// Denied requests a second.
    pub unauthorized: Option<f64>,
    /// Denied clients, most requests first; empty unless `authorization` is [`UNAUTHORIZED`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<DeniedClient>,
    /// Share of the requests that succeeded.
    pub success: Option<f64>,
    /// Requests a second.
    pub rps: Option<f64>,
    pub latency_ms_p50: Option<u64>,
    pub latency_ms_p95: Option<u64>,
    pub latency_ms_p99: Option<u64>,
    /// Time that the samples of this row cover, in milliseconds.
    pub covered_ms: u64,
}

/// Client whose requests were denied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeniedClient {
    /// Identity; empty for a client without mutual TLS.
    pub client_id: String,
    /// Requests a second.
    pub rps: f64,
}
