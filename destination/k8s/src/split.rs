//! TrafficSplit (`split.smi-spec.io`, v1alpha1 to v1alpha4).

use serde::{Deserialize, Serialize};

use crate::{Custom, quantity::Weight};

/// A split of one Service's traffic.
pub type TrafficSplit = Custom<TrafficSplitSpec>;

/// Specification of a [`TrafficSplit`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficSplitSpec {
    /// Apex: the Service that clients address.
    pub service: String,
    /// Backends of its traffic.
    #[serde(default)]
    pub backends: Vec<SplitBackend>,
    /// HTTPRouteGroups that restrict the split (v1alpha3 and later).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<SplitMatch>,
}

/// One backend of a split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SplitBackend {
    /// Service in the same namespace.
    pub service: String,
    /// Share of the traffic, relative to the others.
    #[serde(default)]
    pub weight: Weight,
}

/// A group of routes that restricts a split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SplitMatch {
    /// Group.
    #[serde(default)]
    pub api_group: Option<String>,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
}
