//! Linkerd's policy kinds (`policy.linkerd.io`): Server, authorizations, authentications, rate limits, egress.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::Custom;

/// One port of a set of pods.
pub type Server = Custom<ServerSpec>;
/// Clients allowed to reach a Server (the older form).
pub type ServerAuthorization = Custom<ServerAuthorizationSpec>;
/// Clients allowed to reach a Server, a route or a namespace.
pub type AuthorizationPolicy = Custom<AuthorizationPolicySpec>;
/// Clients by identity.
pub type MeshTlsAuthentication = Custom<MeshTlsAuthenticationSpec>;
/// Clients by network.
pub type NetworkAuthentication = Custom<NetworkAuthenticationSpec>;
/// Rate limit of a Server.
pub type HttpLocalRateLimitPolicy = Custom<RateLimitSpec>;
/// Networks outside the cluster.
pub type EgressNetwork = Custom<EgressNetworkSpec>;

/// Specification of a [`Server`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerSpec {
    /// Selected pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    /// Selected workloads outside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_workload_selector: Option<LabelSelector>,
    /// Port of the pods.
    pub port: PortRef,
    /// Protocol of the port.
    #[serde(default)]
    pub proxy_protocol: ProxyProtocol,
    /// Default policy, where no authorization applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_policy: Option<String>,
}

/// A port by number or by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a port from 1 to 65535, or the name of one")]
pub enum PortRef {
    /// By number.
    Number(u16),
    /// By name of a container's port.
    Name(String),
}

/// Protocol of a port.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProxyProtocol {
    /// Detected from the first bytes.
    #[default]
    #[serde(rename = "unknown")]
    Unknown,
    /// HTTP/1.
    #[serde(rename = "HTTP/1")]
    Http1,
    /// HTTP/2.
    #[serde(rename = "HTTP/2")]
    Http2,
    /// gRPC.
    #[serde(rename = "gRPC")]
    Grpc,
    /// Opaque bytes.
    #[serde(rename = "opaque")]
    Opaque,
    /// The application's own TLS.
    #[serde(rename = "TLS")]
    Tls,
}

/// Specification of a [`ServerAuthorization`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerAuthorizationSpec {
    /// Servers it applies to.
    pub server: ServerRef,
    /// Clients it authorizes.
    pub client: ClientSpec,
}

/// Servers by name or by labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerRef {
    /// By name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// By labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// Clients of a ServerAuthorization.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClientSpec {
    /// Networks; none means the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<Network>>,
    /// No identity is required.
    #[serde(default)]
    pub unauthenticated: bool,
    /// Mesh TLS is required.
    #[serde(default, rename = "meshTLS", skip_serializing_if = "Option::is_none")]
    pub mesh_tls: Option<MeshTlsSpec>,
}

/// Mesh TLS of a ServerAuthorization.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshTlsSpec {
    /// No client certificate is required.
    #[serde(default, rename = "unauthenticatedTLS")]
    pub unauthenticated_tls: bool,
    /// Identities; `*` and `*.suffix` are patterns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identities: Option<Vec<String>>,
    /// Service accounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_accounts: Option<Vec<ServiceAccountRef>>,
}

/// A service account; no namespace means the object's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceAccountRef {
    /// Name.
    pub name: String,
    /// Namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// A network with exceptions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The network, or a single address.
    pub cidr: Cidr,
    /// Excluded parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<Cidr>,
}

/// A network as text: `10.0.0.0/8`, or one address.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Cidr(pub IpNet);

/// Error of parsing a [`Cidr`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a network such as 10.0.0.0/8 nor an address")]
pub struct InvalidCidr(pub String);

impl FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let net = text
            .parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        net.map(Self).map_err(|_| InvalidCidr(text.to_owned()))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Specification of an [`AuthorizationPolicy`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizationPolicySpec {
    /// Protected object.
    pub target_ref: TargetRef,
    /// Authentications, all of which are required; an empty list admits every client.
    #[serde(default)]
    pub required_authentication_refs: Vec<TargetRef>,
}

/// A reference to an object; no namespace means the referring object's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TargetRef {
    /// Group; none is the core group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Kind.
    pub kind: String,
    /// Name; a Namespace reference may leave it out.
    #[serde(default)]
    pub name: String,
    /// Namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

impl TargetRef {
    /// Returns true if the reference is to `kind` of `group`; the core group may be absent, empty or `core`.
    pub fn is(&self, group: &str, kind: &str) -> bool {
        let own = self.group.as_deref().unwrap_or_default();
        let own = if own == crate::keys::CORE_GROUP { "" } else { own };
        own.eq_ignore_ascii_case(group) && self.kind.eq_ignore_ascii_case(kind)
    }
}

/// Specification of a [`MeshTlsAuthentication`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshTlsAuthenticationSpec {
    /// Identities; `*` and `*.suffix` are patterns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identities: Option<Vec<String>>,
    /// Service accounts and namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_refs: Option<Vec<TargetRef>>,
}

/// Specification of a [`NetworkAuthentication`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkAuthenticationSpec {
    /// Networks.
    pub networks: Vec<Network>,
}

/// Specification of an [`HttpLocalRateLimitPolicy`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitSpec {
    /// Limited Server.
    pub target_ref: TargetRef,
    /// Limit for all clients together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Limit>,
    /// Limit for each identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Limit>,
    /// Limits for named identities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overrides: Option<Vec<LimitOverride>>,
}

/// Rate limit.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limit {
    /// Requests per second.
    pub requests_per_second: u32,
}

/// Limit for named identities.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitOverride {
    /// Requests per second.
    pub requests_per_second: u32,
    /// Clients.
    pub client_refs: Vec<TargetRef>,
}

/// Specification of an [`EgressNetwork`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EgressNetworkSpec {
    /// Policy for traffic without a route.
    pub traffic_policy: TrafficPolicy,
    /// Networks; none means everything outside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<Network>>,
}

/// Policy for traffic without a route.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrafficPolicy {
    /// Forwards the traffic.
    Allow,
    /// Rejects the traffic.
    Deny,
}
