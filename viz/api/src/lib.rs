//! What mesh-viz and those who ask it say to each other: requests as query parameters, rows as JSON.
//!
//! Plain values with the key names of Linkerd's `viz ... -o json`, so that a script which reads those reads ours. Every
//! answer carries its [`Source`]: how old its newest sample is and which time its rates were really computed over.

pub mod answer;
pub mod cluster;
pub mod kind;
pub mod query;
pub mod request;
pub mod routes;
pub mod row;
pub mod tap;
pub mod wire;

pub use answer::{Answer, Problem, Source};
pub use kind::{InvalidResource, Kind, Resource};
pub use query::query_string;
pub use request::{EdgesRequest, ProxyMetricsRequest, StatRequest, TapRequest};
pub use routes::{AuthzRequest, AuthzRow, RouteRow, RoutesRequest};
pub use row::{EdgeRow, Meshed, PodRow, StatRow};
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
/// Path of one proxy's metrics, scraped at that moment.
pub const PROXY_METRICS: &str = "/api/proxy-metrics";
