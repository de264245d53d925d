//! What may be asked.

use serde::{Deserialize, Serialize};

use crate::kind::{Kind, Resource};

/// The window of a statistic when none is named, in milliseconds; Linkerd's figure.
pub const DEFAULT_WINDOW_MS: u64 = 60_000;

fn default_window() -> u64 {
    DEFAULT_WINDOW_MS
}

/// Success rate, rate, latencies and connections of resources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatRequest {
    /// Whose rows.
    pub resource: Resource,
    /// Their namespace; none means all.
    pub namespace: Option<String>,
    /// A label selector (`a=b,c!=d,e`) on their pods.
    pub labels: Option<String>,
    /// Over which time, in milliseconds.
    #[serde(default = "default_window")]
    pub window_ms: u64,
    /// Only what they sent to this.
    pub to: Option<Resource>,
    /// Namespace of `to`; none means that of the rows.
    pub to_namespace: Option<String>,
    /// Only what they received from this.
    pub from: Option<Resource>,
    /// Namespace of `from`; none means that of the rows.
    pub from_namespace: Option<String>,
    /// Also what has no meshed pod.
    #[serde(default)]
    pub unmeshed: bool,
}

impl StatRequest {
    /// The statistic of `resource` in all namespaces, over the default window.
    pub fn of(resource: Resource) -> Self {
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

/// Who talks to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgesRequest {
    /// Kind of both ends.
    pub kind: Kind,
    /// An edge is shown if either end is in this namespace; none means all.
    pub namespace: Option<String>,
    /// Edges that were used in this time count even if no connection is open now; in milliseconds.
    #[serde(default = "default_window")]
    pub window_ms: u64,
}

/// The requests that pass just now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapRequest {
    /// At whose proxies.
    pub resource: Resource,
    /// Their namespace; none means all.
    pub namespace: Option<String>,
    /// A label selector on their pods.
    pub labels: Option<String>,
    /// Only what goes to this.
    pub to: Option<Resource>,
    /// Namespace of `to`; none means that of the resource.
    pub to_namespace: Option<String>,
    /// Only this scheme.
    pub scheme: Option<String>,
    /// Only this method.
    pub method: Option<String>,
    /// Only this authority.
    pub authority: Option<String>,
    /// Only paths that begin with this.
    pub path: Option<String>,
    /// Requests a second, over all pods together; none means Linkerd's 100.
    pub max_rps: Option<u32>,
    /// Whether headers are wanted.
    #[serde(default)]
    pub headers: bool,
}

impl TapRequest {
    /// Everything that `resource` sends and receives.
    pub fn of(resource: Resource) -> Self {
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

/// The metrics of one pod's proxy, scraped now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyMetricsRequest {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
}
