//! Service profiles: the older, per-authority form of routes and splits (`Destination.GetProfile`).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::Method;

use crate::{Authority, Endpoint, Meta, route::Pattern};

/// The answer for one authority or address.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// Full name of the service; empty for an address.
    pub fully_qualified_name: String,
    /// The port is opaque.
    pub opaque_protocol: bool,
    /// Routes; the first that matches.
    pub routes: Vec<ProfileRoute>,
    /// Budget of retries.
    pub retry_budget: Option<RetryBudget>,
    /// Targets with weights (TrafficSplit, dstOverrides); empty is the service itself.
    pub targets: Vec<Target>,
    /// The one endpoint, when the lookup was for an address.
    pub endpoint: Option<Arc<Endpoint>>,
    /// The Service.
    pub parent: Option<Meta>,
    /// The ServiceProfile.
    pub profile: Option<Meta>,
}

/// One target of a split. Weights are in ten-thousandths of nothing in particular: only their ratio counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Where.
    pub authority: Authority,
    /// How much.
    pub weight: u32,
    /// The object behind it.
    pub backend: Option<Meta>,
}

/// A route of a profile.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfileRoute {
    /// What a request must look like.
    pub condition: Option<RequestMatch>,
    /// Which responses are failures; the first that matches.
    pub response_classes: Vec<ResponseClass>,
    /// Labels (`rt_*`).
    pub labels: Arc<BTreeMap<String, String>>,
    /// Failures are sent again, within the budget.
    pub is_retryable: bool,
    /// Time for the whole exchange.
    pub timeout: Option<Duration>,
    /// A budget of the route's own; our extension, never on upstream's wire.
    pub retry_budget: Option<RetryBudget>,
}

/// Retries as a share of requests.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct RetryBudget {
    /// Retries per request.
    pub ratio: f32,
    /// Retries per second that are always allowed.
    pub min_per_second: u32,
    /// How long a request counts.
    pub ttl: Option<Duration>,
}

/// What a request must look like.
#[derive(Clone, Debug, PartialEq)]
pub enum RequestMatch {
    /// All hold.
    All(Vec<RequestMatch>),
    /// One holds.
    Any(Vec<RequestMatch>),
    /// It does not hold.
    Not(Box<RequestMatch>),
    /// The whole path matches.
    Path(Pattern),
    /// The method is this.
    Method(Method),
}

/// Which responses are failures.
#[derive(Clone, Debug, PartialEq)]
pub struct ResponseClass {
    /// What a response must look like.
    pub condition: Option<ResponseMatch>,
    /// Whether it is a failure.
    pub is_failure: bool,
}

/// What a response must look like.
#[derive(Clone, Debug, PartialEq)]
pub enum ResponseMatch {
    /// All hold.
    All(Vec<ResponseMatch>),
    /// One holds.
    Any(Vec<ResponseMatch>),
    /// It does not hold.
    Not(Box<ResponseMatch>),
    /// The status is in this inclusive range; `max` 0 is as upstream sends "no maximum".
    Status {
        /// Lowest.
        min: u16,
        /// Highest.
        max: u16,
    },
}
