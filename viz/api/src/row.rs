//! The rows of answers; keys as Linkerd writes them, further keys of ours after those.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// How many of the running pods are in the mesh.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meshed {
    /// Pods with a proxy.
    pub meshed: u32,
    /// Pods that run.
    pub running: u32,
}

/// One row of a statistic. What had no traffic is none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatRow {
    /// Namespace; empty for an authority.
    pub namespace: String,
    /// Kind, singular.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Share of the requests that succeeded.
    pub success: Option<f64>,
    /// Requests a second.
    pub rps: Option<f64>,
    /// Median of the latency, in milliseconds.
    pub latency_ms_p50: Option<u64>,
    /// 95 of 100 requests were as fast as this.
    pub latency_ms_p95: Option<u64>,
    /// 99 of 100 requests were as fast as this.
    pub latency_ms_p99: Option<u64>,
    /// Connections open now.
    pub tcp_open_connections: Option<u64>,
    /// Bytes read a second.
    pub tcp_read_bytes_rate: Option<f64>,
    /// Bytes written a second.
    pub tcp_write_bytes_rate: Option<f64>,
    /// The service that was asked for, of a split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apex: Option<String>,
    /// The service that the split sends to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaf: Option<String>,
    /// Its weight, as the split writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<String>,
    /// Phase of a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Pods in the mesh and pods that run; none for what owns no pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meshed: Option<Meshed>,
    /// Share of the requests that came over mutual TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secured: Option<f64>,
    /// Requests that succeeded in the time covered.
    pub successes: u64,
    /// Requests that failed in the time covered.
    pub failures: u64,
    /// The time that the samples of this row cover, in milliseconds.
    pub covered_ms: u64,
}

/// Who talks to whom, and how well it is protected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeRow {
    /// The client.
    pub src: String,
    /// Its namespace.
    pub src_namespace: String,
    /// The server.
    pub dst: String,
    /// Its namespace.
    pub dst_namespace: String,
    /// Identity that the client proved.
    pub client_id: String,
    /// Identity that the server proved.
    pub server_id: String,
    /// Why there is no mutual TLS; empty if there is.
    pub no_tls_reason: String,
    /// Whether the server's own proxy has counted a connection under this client identity.
    pub client_id_witnessed: bool,
    /// Connections open now.
    pub open_connections: u64,
}

/// One pod as mesh-viz sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRow {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Address, once it has one.
    pub ip: Option<IpAddr>,
    /// Its outermost owner, `kind/name`.
    pub owner: Option<String>,
    /// Phase.
    pub status: String,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether it has a proxy.
    pub meshed: bool,
    /// Age of the last good scrape, in milliseconds.
    pub scrape_age_ms: Option<u64>,
    /// Why the last scrape failed, if it did.
    pub scrape_error: Option<String>,
}
