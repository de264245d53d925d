//! ServiceProfile (`linkerd.io`). Unknown fields are refused, as upstream's webhook does.

use serde::{Deserialize, Serialize};

use crate::{Custom, quantity::Weight};

/// Routes, budget and overrides of one Service.
pub type ServiceProfile = Custom<ServiceProfileSpec>;

/// What a profile says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceProfileSpec {
    /// Routes; the first that matches.
    #[serde(default)]
    pub routes: Vec<RouteSpec>,
    /// Budget of retries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_budget: Option<RetryBudgetSpec>,
    /// Targets with weights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dst_overrides: Vec<DstOverride>,
    /// Opaque ports, by number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub opaque_ports: Vec<u16>,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteSpec {
    /// Name; becomes the label `route`.
    pub name: String,
    /// What a request must look like.
    pub condition: RequestMatchSpec,
    /// Which responses are failures.
    #[serde(default)]
    pub response_classes: Vec<ResponseClassSpec>,
    /// Failures are sent again. Unless it is said, a route with a budget of its own is retryable, others are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_retryable: Option<bool>,
    /// Time for the whole exchange.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Budget of this route alone, as many guides write it; upstream knows one of the whole profile only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_budget: Option<RetryBudgetSpec>,
}

impl RouteSpec {
    /// Whether failures are sent again.
    pub fn is_retryable(&self) -> bool {
        self.is_retryable.unwrap_or(self.retry_budget.is_some())
    }
}

/// What a request must look like; all that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestMatchSpec {
    /// All hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<Vec<RequestMatchSpec>>,
    /// It does not hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not: Option<Box<RequestMatchSpec>>,
    /// One holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any: Option<Vec<RequestMatchSpec>>,
    /// The whole path matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_regex: Option<String>,
    /// The method is this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

/// Which responses are failures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResponseClassSpec {
    /// What a response must look like.
    pub condition: ResponseMatchSpec,
    /// Whether it is a failure.
    #[serde(default)]
    pub is_failure: bool,
}

/// What a response must look like; all that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResponseMatchSpec {
    /// All hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<Vec<ResponseMatchSpec>>,
    /// It does not hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not: Option<Box<ResponseMatchSpec>>,
    /// One holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any: Option<Vec<ResponseMatchSpec>>,
    /// The status is in this range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusRange>,
}

/// A range of statuses; 0 means "not set".
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusRange {
    /// Lowest.
    #[serde(default)]
    pub min: u16,
    /// Highest.
    #[serde(default)]
    pub max: u16,
}

/// Retries as a share of requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryBudgetSpec {
    /// Retries per request.
    pub retry_ratio: f32,
    /// Retries per second that are always allowed.
    pub min_retries_per_second: u32,
    /// How long a request counts.
    pub ttl: String,
}

/// One target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DstOverride {
    /// `name` or `name:port`; without a port the request's is taken.
    pub authority: String,
    /// Its share.
    #[serde(default)]
    pub weight: Weight,
}
