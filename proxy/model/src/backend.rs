//! Backends of client policies: where the requests of a rule, or copies of them, go.

use std::{sync::Arc, time::Duration};

use crate::{Endpoint, Meta};

/// Destination of requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// Object of the backend (`backend_*` labels).
    pub meta: Meta,
    /// Endpoint or balancer; none is an invalid backend (502).
    pub dispatch: Option<Dispatch>,
    /// Queue, as on upstream's wire; the proxy uses its own limits.
    pub queue: Option<Queue>,
}

/// Endpoint or balancer of a backend.
#[derive(Clone, Debug, PartialEq)]
pub enum Dispatch {
    /// One address.
    Forward(Arc<Endpoint>),
    /// A balancer over the endpoints of `path` (`name:port`), from `Destination.Get`.
    Balance {
        /// Path for `Destination.Get`.
        path: Arc<str>,
        /// Estimate of load.
        load: Load,
    },
}

/// Estimate of an endpoint's load.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Load {
    /// Peak EWMA of the response time, times requests in flight.
    PeakEwma(PeakEwma),
    /// The same, with a penalty for responses that report overload.
    PenaltyPeakEwma {
        /// Base estimate.
        ewma: PeakEwma,
        /// Penalty for one such response.
        penalty: Option<Duration>,
        /// Largest `retry-after` that counts.
        max_retry_after: Option<Duration>,
        /// Decay of penalties.
        penalty_decay: Option<Duration>,
    },
}

/// Parameters of the estimate.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct PeakEwma {
    /// Response time assumed of a new endpoint.
    pub default_rtt: Duration,
    /// Time over which an observation decays.
    pub decay: Duration,
}

/// Queue parameters, as on upstream's wire.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Requests.
    pub capacity: u32,
    /// Time without a ready endpoint after which requests fail.
    pub failfast_timeout: Option<Duration>,
}
