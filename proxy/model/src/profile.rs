//! Service profiles: the legacy, per-authority form of routes and splits (`Destination.GetProfile`).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::Method;

use crate::{Authority, Endpoint, Meta, route::Pattern};

/// Profile of one authority or address.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// Full name of the service; empty for an address.
    pub fully_qualified_name: String,
    /// The port is opaque.
    pub opaque_protocol: bool,
    /// Routes; the first match wins.
    pub routes: Vec<ProfileRoute>,
    /// Budget of retries.
    pub retry_budget: Option<RetryBudget>,
    /// Targets with weights (TrafficSplit, dstOverrides); empty is the service itself.
    pub targets: Vec<Target>,
    /// The only endpoint, if the lookup was for an address.
    pub endpoint: Option<Arc<Endpoint>>,
    /// The Service.
    pub parent: Option<Meta>,
    /// The ServiceProfile.
    pub profile: Option<Meta>,
}

/// One target of a split. Of weights only the ratio counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Name and port of the target.
    pub authority: Authority,
    /// Relative weight.
    pub weight: u32,
    /// Object of the target.
    pub backend: Option<Meta>,
}

/// A route of a profile.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfileRoute {
    /// Condition on requests.
    pub condition: Option<RequestMatch>,
    /// Classes of responses; the first match wins.
    pub response_classes: Vec<ResponseClass>,
    /// Labels (`rt_*`).
    pub labels: Arc<BTreeMap<String, String>>,
    /// Failures are retried, within the budget.
    pub is_retryable: bool,
    /// Time for the whole exchange.
    pub timeout: Option<Duration>,
    /// Budget of this route alone; our extension, never on upstream's wire.
    pub retry_budget: Option<RetryBudget>,
}

/// Retries as a share of requests.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct RetryBudget {
    /// Retries per request.
    pub ratio: f32,
    /// Retries per second that are always allowed.
    pub min_per_second: u32,
    /// Time that a request counts.
    pub ttl: Option<Duration>,
}

/// Condition on a request.
#[derive(Clone, Debug, PartialEq)]
pub enum RequestMatch {
    /// All conditions hold.
    All(Vec<RequestMatch>),
    /// At least one condition holds.
    Any(Vec<RequestMatch>),
    /// The condition does not hold.
    Not(Box<RequestMatch>),
    /// The whole path matches.
    Path(Pattern),
    /// The method is equal.
    Method(Method),
}

/// Class of the responses that a condition matches.
#[derive(Clone, Debug, PartialEq)]
pub struct ResponseClass {
    /// Condition on responses.
    pub condition: Option<ResponseMatch>,
    /// Such a response is a failure.
    pub is_failure: bool,
}

/// Condition on a response.
#[derive(Clone, Debug, PartialEq)]
pub enum ResponseMatch {
    /// All conditions hold.
    All(Vec<ResponseMatch>),
    /// At least one condition holds.
    Any(Vec<ResponseMatch>),
    /// The condition does not hold.
    Not(Box<ResponseMatch>),
    /// The status is in this inclusive range; on upstream's wire a `max` of 0 means "no maximum".
    Status {
        /// Lowest.
        min: u16,
        /// Highest.
        max: u16,
    },
}
