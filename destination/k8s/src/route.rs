//! HTTPRoute (`policy.linkerd.io` and `gateway.networking.k8s.io`) GRPCRoute, TLSRoute and TCPRoute, with the defaults that an API server
//! would fill in.

use serde::{Deserialize, Serialize};

use crate::Custom;

/// A route for HTTP.
pub type HttpRoute = Custom<HttpRouteSpec>;
/// A route for gRPC.
pub type GrpcRoute = Custom<GrpcRouteSpec>;
/// A route for TLS of the application's own, by SNI.
pub type TlsRoute = Custom<BytesRouteSpec>;
/// A route for bytes.
pub type TcpRoute = Custom<BytesRouteSpec>;

/// What an HTTPRoute says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteSpec {
    /// What the route is for.
    #[serde(default)]
    pub parent_refs: Vec<ParentRef>,
    /// Hosts; none is all.
    #[serde(default)]
    pub hostnames: Vec<String>,
    /// Rules; none is one that matches everything.
    #[serde(default = "HttpRule::everything")]
    pub rules: Vec<HttpRule>,
}

/// What a GRPCRoute says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrpcRouteSpec {
    /// What the route is for.
    #[serde(default)]
    pub parent_refs: Vec<ParentRef>,
    /// Hosts; none is all.
    #[serde(default)]
    pub hostnames: Vec<String>,
    /// Rules.
    #[serde(default)]
    pub rules: Vec<GrpcRule>,
}

/// What a TLSRoute or a TCPRoute says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BytesRouteSpec {
    /// What the route is for.
    #[serde(default)]
    pub parent_refs: Vec<ParentRef>,
    /// SNIs; none is all. A TCPRoute has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// Rules; exactly one is supported.
    #[serde(default)]
    pub rules: Vec<BytesRule>,
}

/// One rule of a TLSRoute or a TCPRoute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BytesRule {
    /// Name; upstream ignores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where connections go.
    #[serde(default)]
    pub backend_refs: Vec<BackendRef>,
}

/// What a route is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    /// Group; empty or `core` is the core group.
    #[serde(default = "gateway_group")]
    pub group: String,
    /// Kind.
    #[serde(default = "gateway_kind")]
    pub kind: String,
    /// Namespace; none is the route's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// Section.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// Port; none is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

fn gateway_group() -> String {
    crate::keys::GATEWAY_GROUP.to_owned()
}

fn gateway_kind() -> String {
    "Gateway".to_owned()
}

/// One rule of an HTTPRoute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRule {
    /// Name; upstream ignores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Matches; any suffices.
    #[serde(default = "HttpMatch::everything")]
    pub matches: Vec<HttpMatch>,
    /// Filters, in order.
    #[serde(default)]
    pub filters: Vec<Filter>,
    /// Where requests go; none is the parent itself.
    #[serde(default)]
    pub backend_refs: Vec<BackendRef>,
    /// Timeouts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<RuleTimeouts>,
}

impl HttpRule {
    fn everything() -> Vec<Self> {
        vec![Self {
            matches: HttpMatch::everything(),
            ..Self::default()
        }]
    }
}

/// Timeouts of a rule, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleTimeouts {
    /// The whole exchange.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// One attempt; upstream ignores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_request: Option<String>,
}

/// What an HTTP request must look like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpMatch {
    /// Path.
    #[serde(default = "PathMatch::everything")]
    pub path: Option<PathMatch>,
    /// Headers.
    #[serde(default)]
    pub headers: Vec<ValueMatch>,
    /// Query parameters.
    #[serde(default)]
    pub query_params: Vec<ValueMatch>,
    /// Method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

impl HttpMatch {
    fn everything() -> Vec<Self> {
        vec![Self {
            path: PathMatch::everything(),
            headers: vec![],
            query_params: vec![],
            method: None,
        }]
    }
}

/// Which path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathMatch {
    /// How it is compared.
    #[serde(rename = "type", default)]
    pub kind: PathKind,
    /// With what.
    #[serde(default = "root")]
    pub value: String,
}

impl PathMatch {
    // The Option is what `#[serde(default)]` of the field asks for.
    fn everything() -> Option<Self> {
        Some(Self {
            kind: PathKind::PathPrefix,
            value: root(),
        })
    }
}

fn root() -> String {
    "/".to_owned()
}

/// How a path is compared.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathKind {
    /// Exactly.
    Exact,
    /// By segments.
    #[default]
    PathPrefix,
    /// By regular expression.
    RegularExpression,
}

/// Which value of a header or query parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueMatch {
    /// How it is compared.
    #[serde(rename = "type", default)]
    pub kind: ValueKind,
    /// Name of the header or parameter.
    pub name: String,
    /// With what.
    pub value: String,
}

/// How a value is compared.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ValueKind {
    /// Exactly.
    #[default]
    Exact,
    /// By regular expression.
    RegularExpression,
}

/// One rule of a GRPCRoute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrpcRule {
    /// Name; upstream ignores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Matches; any suffices, none matches everything.
    #[serde(default)]
    pub matches: Vec<GrpcMatch>,
    /// Filters, in order.
    #[serde(default)]
    pub filters: Vec<Filter>,
    /// Where requests go; none is the parent itself.
    #[serde(default)]
    pub backend_refs: Vec<BackendRef>,
}

/// What a gRPC request must look like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrpcMatch {
    /// Service and method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<GrpcMethodMatch>,
    /// Headers.
    #[serde(default)]
    pub headers: Vec<ValueMatch>,
}

/// Which service and method.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrpcMethodMatch {
    /// How they are compared; only `Exact` is supported.
    #[serde(rename = "type", default)]
    pub kind: ValueKind,
    /// Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendRef {
    /// Group; none or `core` is the core group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Kind; none is Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Namespace; none is the route's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// Port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Share; 1 unless said.
    #[serde(default = "one")]
    pub weight: u32,
    /// Filters for requests that go there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
}

fn one() -> u32 {
    1
}

/// What happens to a request; `kind` says which field counts, and may be one that the mesh does not support.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Filter {
    /// Which filter.
    #[serde(rename = "type")]
    pub kind: String,
    /// `RequestHeaderModifier`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_header_modifier: Option<HeaderModifier>,
    /// `ResponseHeaderModifier`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_header_modifier: Option<HeaderModifier>,
    /// `RequestRedirect`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_redirect: Option<Redirect>,
}

/// Changes to headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderModifier {
    /// Values to replace with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<HeaderValue>,
    /// Values to append.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<HeaderValue>,
    /// Names to delete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

/// One header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderValue {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// A redirect; what is absent stays as the request had it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Redirect {
    /// Scheme.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// Host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathModifier>,
    /// Port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
}

/// How a redirect changes the path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum PathModifier {
    /// The whole path.
    ReplaceFullPath {
        /// New path.
        #[serde(rename = "replaceFullPath")]
        value: String,
    },
    /// The prefix that matched.
    ReplacePrefixMatch {
        /// New prefix.
        #[serde(rename = "replacePrefixMatch")]
        value: String,
    },
}
