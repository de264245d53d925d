//! TrafficTarget (`access.smi-spec.io`, v1alpha1 to v1alpha3): clients, by service account, that may reach the pods of
//! a service account. The first version has its fields at the top level; either place is read in any version, as a
//! stored object is handed out in all of them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    check::{Check, SUBDOMAIN_MAX, Validation, name},
    path::{Fault, Path},
    policy::PortRef,
};

/// Kind of the only identities that are supported.
pub const SERVICE_ACCOUNT: &str = "ServiceAccount";

/// Clients of the pods of a service account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", try_from = "Written")]
pub struct TrafficTarget {
    /// Group and version, as written.
    pub api_version: String,
    /// Kind, as written.
    pub kind: String,
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Specification, from wherever it was written.
    pub spec: TrafficTargetSpec,
}

/// Specification of a [`TrafficTarget`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficTargetSpec {
    /// Service account of the pods.
    pub destination: Destination,
    /// Service accounts of the clients.
    #[serde(default)]
    pub sources: Vec<Identity>,
    /// Permitted traffic; `specs` in the first version.
    #[serde(default, alias = "specs")]
    pub rules: Vec<TargetRule>,
}

/// Reference to a service account; no namespace means the object's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Kind: `ServiceAccount`.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// Service account of the pods that a target protects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// Kind: `ServiceAccount`.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The one port that the target opens (v1alpha1, v1alpha2); none means all.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "port")]
    pub port: Option<PortRef>,
}

/// Permitted traffic: a route of `specs.smi-spec.io` in the target's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetRule {
    /// Kind: `HTTPRouteGroup` or `TCPRoute`.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Names of the group's matches; none means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<String>,
}

/// Reads a port; a number may be written as text, which the first version asks for.
fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PortRef>, D::Error> {
    Ok(Option::<PortRef>::deserialize(deserializer)?.map(|port| match port {
        PortRef::Name(text) => text.parse().map_or(PortRef::Name(text), PortRef::Number),
        number @ PortRef::Number(_) => number,
    }))
}

/// A target as written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: ObjectMeta,
    spec: Option<TrafficTargetSpec>,
    destination: Option<Destination>,
    sources: Option<Vec<Identity>>,
    #[serde(alias = "specs")]
    rules: Option<Vec<TargetRule>>,
}

impl TryFrom<Written> for TrafficTarget {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let spec = match (written.spec, written.destination, written.sources, written.rules) {
            (Some(spec), None, None, None) => spec,
            (None, Some(destination), sources, rules) => TrafficTargetSpec {
                destination,
                sources: sources.unwrap_or_default(),
                rules: rules.unwrap_or_default(),
            },
            (None, ..) => return Err("the target has neither a spec nor, as in v1alpha1, a destination"),
            (Some(_), ..) => return Err("the target has fields both in its spec and, as in v1alpha1, beside it"),
        };
        Ok(Self {
            api_version: written.api_version,
            kind: written.kind,
            metadata: written.metadata,
            spec,
        })
    }
}

/// Rejects a target without a known destination, which could restrict no pods. Whatever else is wrong restricts them,
/// and is left to the index.
impl Check for TrafficTarget {
    fn check(&self) -> Validation {
        let at = |key: &str| Path::keys(&["spec", "destination", key]);
        let destination = &self.spec.destination;
        if destination.kind != SERVICE_ACCOUNT {
            let reason = format!("{} is not supported, {SERVICE_ACCOUNT} is", destination.kind);
            return Err(Fault::new(at("kind"), reason));
        }
        name(at("name"), &destination.name, SUBDOMAIN_MAX)?;
        let own = self.metadata.namespace.as_deref().unwrap_or_default();
        if let Some(other) = destination.namespace.as_deref().filter(|other| *other != own) {
            let reason = format!("{other:?} is not the namespace of the target, {own}");
            return Err(Fault::new(at("namespace"), reason));
        }
        match &destination.port {
            Some(PortRef::Number(0)) => Err(Fault::new(at("port"), "0 is not a port from 1 to 65535")),
            Some(PortRef::Name(text)) if text.is_empty() => Err(Fault::new(at("port"), "the port's name is empty")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
