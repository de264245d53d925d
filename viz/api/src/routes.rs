//! Routes and authorizations: what may be asked, and the rows.

use serde::{Deserialize, Serialize};

use crate::{kind::Resource, request::DEFAULT_WINDOW_MS};

fn default_window() -> u64 {
    DEFAULT_WINDOW_MS
}

/// Figures of each route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutesRequest {
    /// Whose routes: a Service's, or those of the Services before a workload; with `to`, what it sends.
    pub resource: Resource,
    /// Its namespace; none means all.
    pub namespace: Option<String>,
    /// A label selector on its pods.
    pub labels: Option<String>,
    /// Over which time, in milliseconds.
    #[serde(default = "default_window")]
    pub window_ms: u64,
    /// Only what it sends to this.
    pub to: Option<Resource>,
    /// Namespace of `to`; none means that of the resource.
    pub to_namespace: Option<String>,
}

impl RoutesRequest {
    /// The routes of `resource` in all namespaces, over the default window.
    pub fn of(resource: Resource) -> Self {
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

/// One route of one Service. What had no traffic is none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteRow {
    /// Namespace of the resource.
    pub namespace: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The route's name; `[DEFAULT]` for what matches none.
    pub route: String,
    /// The Service.
    pub authority: String,
    /// Its namespace.
    pub authority_namespace: String,
    /// What says that there is a route: `serviceprofile`, `httproute`, `grpcroute`; empty for `[DEFAULT]` without any.
    pub route_kind: String,
    /// Share of the requests that succeeded, as who asked saw them.
    pub success: Option<f64>,
    /// Requests a second.
    pub rps: Option<f64>,
    /// Median of the latency, in milliseconds.
    pub latency_ms_p50: Option<u64>,
    /// 95 of 100 requests were as fast as this.
    pub latency_ms_p95: Option<u64>,
    /// 99 of 100 requests were as fast as this.
    pub latency_ms_p99: Option<u64>,
    /// With `to`, the same as `success`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_success: Option<f64>,
    /// With `to`, the same as `rps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_rps: Option<f64>,
    /// With `to`: share of the attempts that succeeded, retries among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual_success: Option<f64>,
    /// With `to`: attempts a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual_rps: Option<f64>,
    /// The time that the samples of this row cover, in milliseconds.
    pub covered_ms: u64,
}

/// Figures of each authorization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthzRequest {
    /// At whose proxies: a workload's, or a namespace's.
    pub resource: Resource,
    /// Its namespace; none means all.
    pub namespace: Option<String>,
    /// A label selector on its pods.
    pub labels: Option<String>,
    /// Over which time, in milliseconds.
    #[serde(default = "default_window")]
    pub window_ms: u64,
}

impl AuthzRequest {
    /// The authorizations at `resource` in all namespaces, over the default window.
    pub fn of(resource: Resource) -> Self {
        Self {
            resource,
            namespace: None,
            labels: None,
            window_ms: DEFAULT_WINDOW_MS,
        }
    }
}

/// What `authorization` says of requests that nothing let in.
pub const UNAUTHORIZED: &str = "[UNAUTHORIZED]";
/// What `route` says of requests that no route matches, and `server` of a policy that no Server is.
pub const DEFAULT: &str = "[DEFAULT]";

/// One authorization of one route of one Server. What had no traffic is none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AuthzRow {
    /// Namespace.
    pub namespace: String,
    /// The route: its name, or the word of a default one (`default`, `probe`).
    pub route: String,
    /// The Server, `default:POLICY` for none, with its port.
    pub server: String,
    /// Who let the request in, `kind/name`; [`UNAUTHORIZED`] for what nothing let in.
    pub authorization: String,
    /// Requests a second that nothing let in.
    pub unauthorized: Option<f64>,
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
    /// The time that the samples of this row cover, in milliseconds.
    pub covered_ms: u64,
}
