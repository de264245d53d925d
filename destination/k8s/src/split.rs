//! TrafficSplit (`split.smi-spec.io`, v1alpha1 to v1alpha4).

use serde::{Deserialize, Serialize};

use crate::{Custom, quantity::Weight};

/// A split of one Service's traffic.
pub type TrafficSplit = Custom<TrafficSplitSpec>;

/// What a split says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficSplitSpec {
    /// The apex: the Service that clients name.
    pub service: String,
    /// Where its traffic goes.
    #[serde(default)]
    pub backends: Vec<SplitBackend>,
    /// HTTPRouteGroups that restrict the split (v1alpha3 and later).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<SplitMatch>,
}

/// One backend of a split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SplitBackend {
    /// A Service in the same namespace.
    pub service: String,
    /// Its share, as a ratio.
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
