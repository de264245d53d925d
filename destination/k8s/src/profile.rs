//! ServiceProfile (`linkerd.io`). Unknown fields are rejected, as upstream's webhook does.

use serde::{Deserialize, Serialize};

use crate::{Custom, quantity::Weight};

/// Routes, budget and overrides of one Service.
pub type ServiceProfile = Custom<ServiceProfileSpec>;

/// Specification of a [`ServiceProfile`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceProfileSpec {
    /// Routes; the first match applies.
    #[serde(default)]
    pub routes: Vec<RouteSpec>,
    /// Retry budget.
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
    /// Condition on requests.
    pub condition: RequestMatchSpec,
    /// Classification of responses.
    #[serde(default)]
    pub response_classes: Vec<ResponseClassSpec>,
    /// Enables retries of failures. If absent, a route with its own budget is retryable and others are not; upstream's
    /// routes are retryable only where this field is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_retryable: Option<bool>,
    /// Timeout for the whole exchange.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Retry budget of this route alone, as many guides write it; upstream has one for the whole profile only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_budget: Option<RetryBudgetSpec>,
}

impl RouteSpec {
    /// Returns true if failures are retried.
    pub fn is_retryable(&self) -> bool {
        self.is_retryable.unwrap_or(self.retry_budget.is_some())
    }
}

/// Condition on requests; all fields that are set must match.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestMatchSpec {
    /// All of these match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<Vec<RequestMatchSpec>>,
    /// This does not match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not: Option<Box<RequestMatchSpec>>,
    /// One of these matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any: Option<Vec<RequestMatchSpec>>,
    /// Regular expression for the whole path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_regex: Option<String>,
    /// Method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

/// One class of responses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResponseClassSpec {
    /// Condition on responses.
    pub condition: ResponseMatchSpec,
    /// Counts responses of this class as failures.
    #[serde(default)]
    pub is_failure: bool,
}

/// Condition on responses; all fields that are set must match.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResponseMatchSpec {
    /// All of these match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<Vec<ResponseMatchSpec>>,
    /// This does not match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not: Option<Box<ResponseMatchSpec>>,
    /// One of these matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any: Option<Vec<ResponseMatchSpec>>,
    /// Range of statuses.
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
    /// Time for which a request counts.
    pub ttl: String,
}

/// One target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DstOverride {
    /// `name` or `name:port`; the request's port is used if there is none.
    pub authority: String,
    /// Share of the traffic.
    #[serde(default)]
    pub weight: Weight,
}
