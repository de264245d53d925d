//! Outbound side of the proxy: from the application to the mesh, one file per phase.
//!
//! ```text
//! session -> discover -> detect -> http (per request: route -> retry -> distribute -> balance -> endpoint)
//!                             \-> opaque (per connection: distribute -> balance -> endpoint)
//! ```
//!
//! A [`snapshot`] is the compiled answer of discovery about one target. It is replaced as a whole when the answer
//! changes, and every request reads the current one. State (load, failures, connections, waiting requests) lives
//! outside of it, in [`endpoints`], and survives. Nothing here is `Send`: a worker owns all of it.
//!
//! ```text
//! worker -> discover -> snapshot -> endpoints -> balance -> endpoint -> connect -> context
//! ```

mod balance;
mod breakers;
mod connect;
mod context;
mod copies;
mod deliver;
mod detect;
mod discover;
mod distribute;
mod endpoint;
mod endpoints;
mod error;
mod http;
mod io;
mod mirror;
mod opaque;
mod request;
mod response;
mod retry;
mod route;
mod session;
mod snapshot;
mod targets;
mod timeout;
mod worker;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use proxy_core::{backoff, budget::RetryBudget};
use proxy_discovery::Discovery;
use proxy_http::{server::ServerParams, tap};
use proxy_metrics::Recorder;
use proxy_model::{defaults, limits, profile, route::Backoff};
use proxy_tls::Tls;
use proxy_transport::Connect;

pub use breakers::Breakers;
pub use error::Error;
pub use worker::Worker;

/// Dependencies of a worker.
#[derive(Clone, Debug)]
pub struct Deps {
    /// Answers of the control plane.
    pub discovery: Discovery,
    /// TLS with this workload's identity.
    pub tls: Tls,
    /// This worker's recorder.
    pub metrics: Recorder,
    /// Tap observers.
    pub tap: tap::Registry,
    /// Retry budgets, shared by all workers.
    pub budgets: Budgets,
    /// Breakers of endpoints, shared by all workers.
    pub breakers: Breakers,
    /// Configuration.
    pub config: Config,
}

/// Longest backoff for an unreachable endpoint. Upstream waits up to a minute; here a request triggers the attempt, so
/// that it costs little, and a recovered endpoint is found soon.
const CONNECT_BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Configuration of the outbound side. The defaults are upstream's, except for the longest connect backoff.
#[derive(Clone, Debug)]
pub struct Config {
    /// Connect parameters for endpoints.
    pub connect: Connect,
    /// Backoff for an unreachable endpoint.
    pub connect_backoff: Backoff,
    /// Time without a ready endpoint after which requests fail.
    pub failfast: Duration,
    /// Timeout for a client's first bytes.
    pub detect_timeout: Duration,
    /// Addresses of this workload: endpoints here are reached without TLS.
    pub local_ips: Arc<[IpAddr]>,
    /// Idle timeout of an HTTP/1 connection to an endpoint.
    pub http1_idle: Duration,
    /// Idle timeout of an unused target.
    pub discovery_idle: Duration,
    /// HTTP/2 parameters toward the application.
    pub http2: ServerParams,
    /// Sends `l5d-proxy-error` to the application with responses that the proxy made.
    pub informational_headers: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connect: Connect::default(),
            connect_backoff: Backoff {
                max: CONNECT_BACKOFF_MAX,
                ..backoff::CONNECT
            },
            failfast: defaults::FAILFAST_TIMEOUT,
            detect_timeout: defaults::DETECT_TIMEOUT,
            local_ips: Arc::default(),
            http1_idle: defaults::POOL_IDLE,
            discovery_idle: defaults::OUTBOUND_IDLE,
            http2: ServerParams::default(),
            informational_headers: true,
        }
    }
}

/// Retry budgets by profile, one set per process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Budgets(Arc<Mutex<HashMap<String, Budget>>>);

#[derive(Debug)]
struct Budget {
    params: profile::RetryBudget,
    tokens: SharedBudget,
}

/// Budget of one profile or route.
type SharedBudget = Arc<Mutex<RetryBudget>>;

impl Budgets {
    /// Returns the budget called `name`; creates it if it does not exist or its parameters changed. `None` for
    /// parameters out of range, or if too many budgets are in use.
    fn get_or_create(&self, name: &str, params: &profile::RetryBudget, metrics: &Recorder) -> Option<SharedBudget> {
        let mut budgets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(budget) = budgets.get(name).filter(|b| b.params == *params) {
            return Some(budget.tokens.clone());
        }
        let limit = limits::RETRY_BUDGETS;
        if budgets.len() >= limit.value {
            budgets.retain(|_, b| Arc::strong_count(&b.tokens) > 1);
        }
        if budgets.len() >= limit.value && !budgets.contains_key(name) {
            metrics.limit_refused(limit);
            return None;
        }
        let tokens = Arc::new(Mutex::new(RetryBudget::new(params, Instant::now())?));
        budgets.insert(
            name.to_owned(),
            Budget {
                params: *params,
                tokens: tokens.clone(),
            },
        );
        Some(tokens)
    }
}

#[cfg(test)]
mod tests;
