//! What the control plane says, kept current: lookups, the streams behind them, their age.
//!
//! Workers ask [`Discovery`] for a target and get a watch on the answer; who asks for the same target gets the same watch.
//! The streams live on the control thread ([`Driver`]). A lookup lives as long as somebody holds its watch, and an idle
//! time longer; while its stream is down it never ends, because nobody could ask for it anew.
//!
//! ```text
//! worker --outbound(target)--> [cache::Lookups] <--answers-- [Driver] <--streams-- [ControlPlane] (gRPC, or a test)
//! ```

mod cache;
mod control_plane;
mod defaults;
mod driver;
mod endpoints;
mod fallback;
mod persist;
mod script;
mod stream;

use std::{sync::Arc, time::Duration};

use ipnet::IpNet;
use proxy_metrics::Metrics;
use proxy_model::{
    ClientPolicy, DiscoveryCache, EndpointSet, OutboundTarget, Profile, ServerPolicy, limits, ports::PortSet,
};
use tokio::{sync::watch, time::Instant};

use crate::cache::Lookups;
pub use cache::Status;
pub use control_plane::{ControlPlane, Failure, Service, Stream};
pub use defaults::{DefaultPolicy, InvalidDefaultPolicy};
pub use driver::Driver;
pub use fallback::{forward_policy, invalid_policy};
pub use script::Script;
pub use stream::StreamLimits;

/// What is known about an outbound target. Both parts were waited for.
#[derive(Clone, Debug, PartialEq)]
pub struct Outbound {
    /// Routes and backends; where the control plane knows nothing, the address itself.
    pub policy: Arc<ClientPolicy>,
    /// The older form; used for HTTP if it has routes or targets, for bytes if it has targets.
    pub profile: Option<Arc<Profile>>,
    /// Where the policy is from.
    pub source: Source,
    /// Since when it is so. (When the control plane last said something is in [`Discovery::status`].)
    pub since: Instant,
}

/// Where an answer is from.
#[derive(Copy, Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The control plane said it.
    ControlPlane,
    /// The control plane knows nothing about it, so the proxy made it.
    Synthesised,
}

/// How this workload asks.
#[derive(Clone, Debug)]
pub struct Config {
    /// Networks for whose addresses profiles are looked up.
    pub profile_networks: Vec<IpNet>,
    /// Policy of a port until the control plane says another.
    pub default_policy: DefaultPolicy,
    /// Ports that are opaque until the control plane says otherwise.
    pub opaque_ports: PortSet,
    /// Time for the first bytes of a connection to a target that the control plane does not know.
    pub detect_timeout: Duration,
    /// Time that an outbound lookup without users is kept.
    pub outbound_idle: Duration,
    /// Time that an inbound lookup without users is kept.
    pub inbound_idle: Duration,
    /// Limits of `Destination` streams.
    pub destination_limits: StreamLimits,
    /// Limits of policy streams.
    pub policy_limits: StreamLimits,
    /// Where ages, reconnections and refusals are counted.
    pub metrics: Metrics,
    /// Answers that an earlier process got.
    pub cache: DiscoveryCache,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            profile_networks: Vec::new(),
            default_policy: DefaultPolicy::default(),
            opaque_ports: proxy_model::ports::DEFAULT_OPAQUE.into_iter().collect(),
            detect_timeout: Duration::from_secs(10),
            outbound_idle: Duration::from_secs(5),
            inbound_idle: Duration::from_secs(90),
            destination_limits: StreamLimits::default(),
            policy_limits: StreamLimits::default(),
            metrics: Metrics::default(),
            cache: DiscoveryCache::default(),
        }
    }
}

/// Handle on all lookups. Cheap to clone; any thread may ask.
#[derive(Clone, Debug)]
pub struct Discovery(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    outbound: Lookups<OutboundTarget, Option<Arc<Outbound>>>,
    endpoints: Lookups<Arc<str>, Option<Arc<EndpointSet>>>,
    inbound: Lookups<u16, Arc<ServerPolicy>>,
}

impl Discovery {
    /// A handle, and the driver that answers what it is asked.
    pub fn new<C: ControlPlane>(config: Config, control_plane: C) -> (Self, Driver<C>) {
        let discovery = Self::unanswered(config);
        let driver = Driver::new(discovery.clone(), control_plane);
        (discovery, driver)
    }

    /// A handle whose answers are set by hand, for tests.
    pub fn scripted() -> (Self, Script) {
        let discovery = Self::unanswered(Config::default());
        (discovery.clone(), Script::new(discovery))
    }

    fn unanswered(mut config: Config) -> Self {
        let DiscoveryCache {
            inbound,
            outbound,
            endpoints,
        } = std::mem::take(&mut config.cache);
        let (limit, metrics) = (limits::DISCOVERY_TARGETS.value, || config.metrics.clone());
        Self(Arc::new(Inner {
            outbound: Lookups::new(limit, metrics(), outbound.into_iter().map(persist::outbound)),
            endpoints: Lookups::new(
                limit,
                metrics(),
                endpoints.into_iter().map(|(path, set)| (path, Some(set))),
            ),
            inbound: Lookups::new(limit, metrics(), inbound),
            config,
        }))
    }

    /// Policy and profile of an outbound target. `None` until both have been answered, then always `Some`.
    pub fn outbound(&self, target: &OutboundTarget) -> watch::Receiver<Option<Arc<Outbound>>> {
        self.0.outbound.subscribe(target, || None)
    }

    /// The endpoints of `name:port`. `None` until the first answer.
    pub fn endpoints(&self, path: &str) -> watch::Receiver<Option<Arc<EndpointSet>>> {
        self.0.endpoints.subscribe(&Arc::from(path), || None)
    }

    /// The policy of a port of this workload; the default until the control plane says another. A policy is normalised:
    /// HTTP always has a route, and connections from this host are authorized.
    pub fn inbound(&self, port: u16) -> watch::Receiver<Arc<ServerPolicy>> {
        self.0.inbound.subscribe(&port, || {
            Arc::new(self.0.config.default_policy.for_port(port, &self.0.config.opaque_ports))
        })
    }

    /// Every lookup with the age of its answer.
    pub fn status(&self) -> Vec<Status> {
        let mut all = self.0.outbound.status("outbound", OutboundTarget::to_string);
        all.extend(self.0.endpoints.status("endpoints", |path| path.to_string()));
        all.extend(self.0.inbound.status("inbound", u16::to_string));
        all
    }
}
