//! API of mesh-viz: requests as query parameters, rows as JSON.
//!
//! Plain values with the key names of Linkerd's `viz ... -o json`, so that scripts written for it work unchanged. Every
//! answer carries its [`Source`]: the age of its newest sample and the time that its rates were computed over.
//! Owned here: the wire form. Not known here: the cluster, the proxies, how rows are computed.

pub mod answer;
pub mod cluster;
pub mod kind;
pub mod query;
pub mod request;
pub mod row;
pub mod tap;
pub mod wire;

pub use answer::{Answer, Problem, Source};
pub use kind::{InvalidResource, Kind, Resource};
pub use query::query_string;
pub use request::{AuthzRequest, EdgesRequest, ProxyMetricsRequest, RoutesRequest, StatRequest, TapRequest};
pub use row::{AuthzRow, DEFAULT_ROUTE, DeniedClient, EdgeRow, Meshed, PodRow, RouteRow, StatRow, UNAUTHORIZED};
pub use tap::TapEvent;

/// Path of the statistics.
pub const STAT: &str = "/api/stat";
/// Path of the edges.
pub const EDGES: &str = "/api/edges";
/// Path of the routes.
pub const ROUTES: &str = "/api/routes";
/// Path of the authorizations.
pub const AUTHZ: &str = "/api/authz";
/// Path of the live requests, one JSON object a line.
pub const TAP: &str = "/api/tap";
/// Path of the pods.
pub const PODS: &str = "/api/pods";
/// Path of one proxy's metrics, scraped on request.
pub const PROXY_METRICS: &str = "/api/proxy-metrics";
