//! From the application to the mesh: one file per phase.
//!
//! ```text
//! accept -> discover -> detect -> http (per request: route -> retry -> distribute -> balance -> endpoint)
//!                             \-> opaque (per connection: distribute -> balance -> endpoint)
//! ```
//!
//! A [`snapshot`] is what discovery said about one target, compiled; it is replaced whole when discovery says something
//! new, and every request reads the current one. What is learnt of endpoints (load, failures, connections) lives outside of
//! it, in [`balance`] and [`endpoint`], and survives. Nothing here is `Send`: a worker owns all of it.

mod accept;
mod balance;
mod connect;
mod deliver;
mod detect;
mod discover;
mod distribute;
mod endpoint;
mod error;
mod http;
mod io;
mod opaque;
mod request;
mod response;
mod retry;
mod route;
mod snapshot;
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
use proxy_model::{profile, route::Backoff};
use proxy_tls::Tls;
use proxy_transport::Connect;

pub use error::Error;
pub use worker::Worker;

/// What a worker needs.
#[derive(Clone, Debug)]
pub struct Deps {
    /// What the control plane says.
    pub discovery: Discovery,
    /// Who we are.
    pub tls: Tls,
    /// This worker's recorder.
    pub metrics: Recorder,
    /// Who taps.
    pub tap: tap::Registry,
    /// Retry budgets; the same for all workers.
    pub budgets: Budgets,
    /// Figures.
    pub config: Config,
}

/// Longest wait before an endpoint that could not be reached is tried again. Upstream waits up to a minute; here a request
/// asks for the attempt, so that it costs little, and an endpoint that is back is found soon.
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);

/// Figures of the outbound side. The defaults are upstream's, but for the longest wait between connects.
#[derive(Clone, Debug)]
pub struct Config {
    /// How to connect to endpoints.
    pub connect: Connect,
    /// Waits after an endpoint could not be reached.
    pub connect_backoff: Backoff,
    /// Time that nothing may be ready before requests fail.
    pub failfast: Duration,
    /// Time for a client's first bytes.
    pub detect_timeout: Duration,
    /// Addresses of this workload: endpoints here are reached without TLS.
    pub local_ips: Arc<[IpAddr]>,
    /// Time that an idle HTTP/1 connection to an endpoint is kept.
    pub http1_idle: Duration,
    /// Time that what is known of an unused target is kept.
    pub discovery_idle: Duration,
    /// HTTP/2 parameters toward the application.
    pub http2: ServerParams,
    /// Tell the application why an answer is the proxy's own (`l5d-proxy-error`).
    pub informational_headers: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connect: Connect::default(),
            connect_backoff: Backoff {
                max: LONGEST_BACKOFF,
                ..backoff::CONNECT
            },
            failfast: Duration::from_secs(3),
            detect_timeout: Duration::from_secs(10),
            local_ips: Arc::default(),
            http1_idle: proxy_http::pool::IDLE_TIMEOUT,
            discovery_idle: Duration::from_secs(90),
            http2: ServerParams::default(),
            informational_headers: true,
        }
    }
}

/// Retry budgets by profile, counted once per process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Budgets(Arc<Mutex<HashMap<String, Budget>>>);

#[derive(Debug)]
struct Budget {
    params: profile::RetryBudget,
    tokens: SharedBudget,
}

/// The budget of one profile or route.
type SharedBudget = Arc<Mutex<RetryBudget>>;

impl Budgets {
    /// The budget called `name`: the one that is counted already, unless its figures changed.
    fn get(&self, name: &str, params: &profile::RetryBudget) -> Option<SharedBudget> {
        let mut budgets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(budget) = budgets.get(name).filter(|b| b.params == *params) {
            return Some(budget.tokens.clone());
        }
        if budgets.len() >= proxy_model::limits::RETRY_BUDGETS.value {
            budgets.retain(|_, b| Arc::strong_count(&b.tokens) > 1);
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
