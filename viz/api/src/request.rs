//! Requests.

use serde::{Deserialize, Serialize};

use crate::kind::{Kind, Resource};

/// Window of figures unless a request names one, in milliseconds; Linkerd's default.
pub const DEFAULT_WINDOW_MS: u64 = 60_000;

fn default_window() -> u64 {
    DEFAULT_WINDOW_MS
}

/// Success rate, rate, latencies and connections of resources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatRequest {
    /// Resources that get rows.
    pub resource: Resource,
    /// None means all.
    pub namespace: Option<String>,
    /// Label selector (`a=b,c!=d,e`) on their pods.
    pub labels: Option<String>,
    #[serde(default = "default_window")]
    pub window_ms: u64,
    /// Count only what they sent to this.
    pub to: Option<Resource>,
    /// Namespace of `to`; none means that of the rows.
    pub to_namespace: Option<String>,
    /// Count only what they received from this.
    pub from: Option<Resource>,
    /// Namespace of `from`; none means that of the rows.
    pub from_namespace: Option<String>,
    /// Include resources without a meshed pod.
    #[serde(default)]
    pub unmeshed: bool,
}

impl StatRequest {
    /// Statistic of `resource` in all namespaces, over the default window.
    pub fn new(resource: Resource) -> Self {
        Self {
            resource,
            namespace: None,
            labels: None,
            window_ms: DEFAULT_WINDOW_MS,
            to: None,
            to_namespace: None,
            from: None,
            from_namespace: None,
            unmeshed: false,
        }
    }
}

/// Connections between workloads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgesRequest {
    /// Kind of both ends.
    pub kind: Kind,
    /// Namespace of either end; none means all.
    pub namespace: Option<String>,
    /// Edges used in this time count even if no connection is open now.
    #[serde(default = "default_window")]
    pub window_ms: u64,
    /// Include connections to the proxies themselves: scrapes and taps of mesh-viz.
    #[serde(default)]
    pub include_scrapes: bool,
}

/// Figures of each route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutesRequest {
    /// Service, or workload behind Services; with `to`, the client.
    pub resource: Resource,
    /// None means all.
    pub namespace: Option<String>,
    /// Label selector on its pods.
    pub labels: Option<String>,
    #[serde(default = "default_window")]
    pub window_ms: u64,
    /// Count only what it sends to this.
    pub to: Option<Resource>,
    /// Namespace of `to`; none means that of the resource.
    pub to_namespace: Option<String>,
}

impl RoutesRequest {
    /// Routes of `resource` in all namespaces, over the default window.
    pub fn new(resource: Resource) -> Self {
        Self {
            resource,
            namespace: None,
            labels: None,
            window_ms: DEFAULT_WINDOW_MS,
            to: None,
            to_namespace: None,
        }
    }
}

/// Figures of each authorization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthzRequest {
    /// Workload or namespace whose proxies authorize.
    pub resource: Resource,
    /// None means all.
    pub namespace: Option<String>,
    /// Label selector on its pods.
    pub labels: Option<String>,
    #[serde(default = "default_window")]
    pub window_ms: u64,
}

impl AuthzRequest {
    /// Authorizations at `resource` in all namespaces, over the default window.
    pub fn new(resource: Resource) -> Self {
        Self {
            resource,
            namespace: None,
            labels: None,
            window_ms: DEFAULT_WINDOW_MS,
        }
    }
}

/// Live requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapRequest {
    /// Resource whose proxies are tapped.
    pub resource: Resource,
    /// None means all.
    pub namespace: Option<String>,
    /// Label selector on its pods.
    pub labels: Option<String>,
    /// Match only requests to this.
    pub to: Option<Resource>,
    /// Namespace of `to`; none means that of the resource.
    pub to_namespace: Option<String>,
    /// Match only this scheme.
    pub scheme: Option<String>,
    /// Match only this method.
    pub method: Option<String>,
    /// Match only this authority.
    pub authority: Option<String>,
    /// Match only paths with this prefix.
    pub path: Option<String>,
    /// Requests per second over all pods together; none means Linkerd's 100.
    pub max_rps: Option<u32>,
    /// Include headers in events.
    #[serde(default)]
    pub headers: bool,
}

impl TapRequest {
    /// All requests that `resource` sends and receives.
    pub fn new(resource: Resource) -> Self {
        Self {
            resource,
            namespace: None,
            labels: None,
            to: None,
            to_namespace: None,
            scheme: None,
            method: None,
            authority: None,
            path: None,
            max_rps: None,
            headers: false,
        }
    }
}

/// Metrics of one pod's proxy, scraped on request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyMetricsRequest {
    pub namespace: String,
    pub pod: String,
}
