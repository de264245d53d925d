//! HTTPRoute (`policy.linkerd.io` and `gateway.networking.k8s.io`), GRPCRoute, TLSRoute and TCPRoute, with the defaults
//! that an API server would fill in.

use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Serialize};

use crate::Custom;

/// HTTPRoute of either group.
pub type HttpRoute = Custom<HttpRouteSpec>;
/// GRPCRoute.
pub type GrpcRoute = Custom<GrpcRouteSpec>;
/// TLSRoute: routes the application's own TLS by SNI.
pub type TlsRoute = Custom<OpaqueRouteSpec>;

/// HTTPRoute of `policy.linkerd.io`: a newtype, as it is another kind than that of the Gateway API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PolicyHttpRoute(pub HttpRoute);

impl Deref for PolicyHttpRoute {
    type Target = HttpRoute;

    fn deref(&self) -> &HttpRoute {
        &self.0
    }
}

impl DerefMut for PolicyHttpRoute {
    fn deref_mut(&mut self) -> &mut HttpRoute {
        &mut self.0
    }
}

/// TCPRoute: a TLSRoute without SNIs, but a kind of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TcpRoute(pub TlsRoute);

impl Deref for TcpRoute {
    type Target = TlsRoute;

    fn deref(&self) -> &TlsRoute {
        &self.0
    }
}

impl DerefMut for TcpRoute {
    fn deref_mut(&mut self) -> &mut TlsRoute {
        &mut self.0
    }
}

/// Specification of an [`HttpRoute`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteSpec {
    /// Parents the route attaches to.
    #[serde(default)]
    pub parent_refs: Vec<ParentRef>,
    /// Hosts; an empty list matches all.
    #[serde(default)]
    pub hostnames: Vec<String>,
    /// Rules; by default one that matches everything.
    #[serde(default = "HttpRule::everything")]
    pub rules: Vec<HttpRule>,
}

/// Specification of a [`GrpcRoute`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrpcRouteSpec {
    /// Parents the route attaches to.
    #[serde(default)]
    pub parent_refs: Vec<ParentRef>,
    /// Hosts; an empty list matches all.
    #[serde(default)]
    pub hostnames: Vec<String>,
    /// Rules.
    #[serde(default)]
    pub rules: Vec<GrpcRule>,
}

/// Specification of a TLSRoute or a TCPRoute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpaqueRouteSpec {
    /// Parents the route attaches to.
    #[serde(default)]
    pub parent_refs: Vec<ParentRef>,
    /// SNIs; an empty list matches all. A TCPRoute has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// Rules; exactly one is supported.
    #[serde(default)]
    pub rules: Vec<OpaqueRule>,
}

/// One rule of a TLSRoute or a TCPRoute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpaqueRule {
    /// Name; upstream ignores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Backends.
    #[serde(default)]
    pub backend_refs: Vec<BackendRef>,
}

/// Reference to a parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    /// Group; empty or `core` is the core group.
    #[serde(default = "gateway_group")]
    pub group: String,
    /// Kind.
    #[serde(default = "gateway_kind")]
    pub kind: String,
    /// Namespace; the route's own by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// Section.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// Port; all by default.
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
    /// Matches, any of which suffices.
    #[serde(default = "HttpMatch::everything")]
    pub matches: Vec<HttpMatch>,
    /// Filters, in order.
    #[serde(default)]
    pub filters: Vec<Filter>,
    /// Backends; the parent itself by default.
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
    /// Timeout for the whole exchange.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Timeout for one attempt; upstream ignores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_request: Option<String>,
}

/// Match on an HTTP request.
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

/// Match on a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathMatch {
    /// Kind of comparison.
    #[serde(rename = "type", default)]
    pub kind: PathKind,
    /// Value to compare with.
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

/// Kind of comparison of a path.
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

/// Match on the value of a header or query parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueMatch {
    /// Kind of comparison.
    #[serde(rename = "type", default)]
    pub kind: ValueKind,
    /// Name of the header or parameter.
    pub name: String,
    /// Value to compare with.
    pub value: String,
}

/// Kind of comparison of a value.
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
    /// Matches, any of which suffices; an empty list matches everything.
    #[serde(default)]
    pub matches: Vec<GrpcMatch>,
    /// Filters, in order.
    #[serde(default)]
    pub filters: Vec<Filter>,
    /// Backends; the parent itself by default.
    #[serde(default)]
    pub backend_refs: Vec<BackendRef>,
}

/// Match on a gRPC request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrpcMatch {
    /// Service and method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<GrpcMethodMatch>,
    /// Headers.
    #[serde(default)]
    pub headers: Vec<ValueMatch>,
}

/// Match on service and method.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrpcMethodMatch {
    /// Kind of comparison; only `Exact` is supported.
    #[serde(rename = "type", default)]
    pub kind: ValueKind,
    /// Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

/// Reference to a backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendRef {
    /// Group; absent or `core` is the core group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Kind; Service by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Namespace; the route's own by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// Port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Share of the traffic; 1 by default.
    #[serde(default = "one")]
    pub weight: u32,
    /// Filters for requests to this backend.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
}

impl BackendRef {
    /// Kind, which is Service by default.
    pub fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or("Service")
    }
}

fn one() -> u32 {
    1
}

/// Filter of requests; `kind` selects the field that applies, and may be one that the mesh does not support.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Filter {
    /// Kind of filter.
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
    /// `URLRewrite`.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "urlRewrite")]
    pub url_rewrite: Option<UrlRewrite>,
    /// `RequestMirror`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_mirror: Option<RequestMirror>,
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

/// A redirect; absent parts stay as in the request.
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

/// A mirror; `percent` and `fraction` exclude each other, and all requests are copied without either.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestMirror {
    /// Backend of the copies; it has neither weight nor filters.
    pub backend_ref: BackendRef,
    /// Share of the requests in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u32>,
    /// Share of the requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fraction: Option<Fraction>,
}

/// A share.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fraction {
    /// Part of the whole.
    pub numerator: u32,
    /// Whole; 100 by default.
    #[serde(default = "hundred")]
    pub denominator: u32,
}

fn hundred() -> u32 {
    100
}

/// A rewrite; absent parts stay as in the request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UrlRewrite {
    /// Host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathModifier>,
}

/// Change of the path by a redirect or a rewrite.
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
