//! The shape that all custom kinds share: metadata and a spec. Status is written by upstream and ignored here.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

/// An object of a custom kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Custom<S> {
    /// Group and version, as written.
    #[serde(default)]
    pub api_version: String,
    /// Kind, as written.
    #[serde(default)]
    pub kind: String,
    /// Metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// Specification.
    pub spec: S,
}
