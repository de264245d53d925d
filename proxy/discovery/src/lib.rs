//! Discovery: answers of the control plane, kept current by streams and shared by lookups.
//!
//! Workers ask [`Discovery`] for a target and get a watch on the answer; lookups of the same target share one watch.
//! The streams run on the control thread ([`Driver`]). A lookup lives as long as its watch is held, plus an idle time;
//! while its stream is down it never ends, because the answer could not be fetched again.
//!
//! ```text
//! worker --outbound(target)--> [cache::Lookups] <--answers-- [Driver] <--streams-- [ControlPlane] (gRPC, or a test)
//! ```

mod cache;
mod control_plane;
mod driver;
mod endpoints;
mod fallback;
mod persist;
mod port_policy;
#[cfg(any(test, feature = "script"))]
mod script;
mod stream;

use std::{sync::Arc, time::Duration};

use ipnet::IpNet;
use proxy_metrics::Metrics;
use proxy_model::{
    ClientPolicy, DiscoveryCache, EndpointSet, OutboundTarget, Profile, ServerPolicy, defaults, limits, ports::PortSet,
};
use tokio::{sync::watch, time::Instant};

use crate::cache::Lookups;
pub use cache::Status;
pub use control_plane::{ControlPlane, Failure, Service, Stream};
pub use driver::Driver;
pub use fallback::{forward_policy, invalid_policy};
pub use port_policy::{NoClusterNetworks, PortPolicy};
#[cfg(any(test, feature = "script"))]
pub use script::Script;
pub use stream::StreamLimits;

/// Answer for an outbound target. It is published once both parts are known.
#[derive(Clone, Debug, PartialEq)]
pub struct Outbound {
    /// Routes and backends; the address itself if the control plane does not know the target.
    pub policy: Arc<ClientPolicy>,
    /// Service profile. Where the policy has its targets, its routes apply over the policy's; otherwise it replaces
    /// them, for HTTP if it has routes or targets, for opaque connections if it has targets.
    pub profile: Option<Arc<Profile>>,
    /// Source of the policy.
    pub source: Source,
    /// Time of the last change. ([`Discovery::status`] has the time of the last message.)
    pub since: Instant,
}

/// Source of an answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Sent by the control plane.
    ControlPlane,
    /// Made by the proxy, because the control plane does not know the target.
    Synthesised,
}

/// Configuration of discovery.
#[derive(Clone, Debug)]
pub struct Config {
    /// Networks whose addresses have profiles.
    pub profile_networks: Vec<IpNet>,
    /// Policy of a port that is not known, where the proxy fails open.
    pub default_policy: PortPolicy,
    /// Allows by the default policy until the control plane sends one. Otherwise an unknown policy allows nothing.
    pub fail_open: bool,
    /// Ports that are opaque until the control plane sends a policy.
    pub opaque_ports: PortSet,
    /// Detection timeout for targets that the control plane does not know.
    pub detect_timeout: Duration,
    /// Idle timeout of an outbound lookup without users.
    pub outbound_idle: Duration,
    /// Idle timeout of an inbound lookup without users.
    pub inbound_idle: Duration,
    /// Limits of `Destination` streams.
    pub destination_limits: StreamLimits,
    /// Limits of policy streams.
    pub policy_limits: StreamLimits,
    /// Metrics of ages, reconnections and limits.
    pub metrics: Metrics,
    /// Answers of an earlier process.
    pub cache: DiscoveryCache,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            profile_networks: Vec::new(),
            default_policy: PortPolicy::default(),
            fail_open: false,
            opaque_ports: proxy_model::ports::DEFAULT_OPAQUE.into_iter().collect(),
            detect_timeout: defaults::DETECT_TIMEOUT,
            outbound_idle: defaults::OUTBOUND_IDLE,
            inbound_idle: defaults::INBOUND_IDLE,
            destination_limits: StreamLimits::default(),
            policy_limits: StreamLimits::default(),
            metrics: Metrics::default(),
            cache: DiscoveryCache::default(),
        }
    }
}

/// Watch on the policy of a port. `None` until it is known, then always `Some`: nothing but another policy replaces it.
pub type PolicyWatch = watch::Receiver<Option<Arc<ServerPolicy>>>;

/// Handle on all lookups. Cheap to clone and usable from any thread.
#[derive(Clone, Debug)]
pub struct Discovery(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    outbound: Lookups<OutboundTarget, Option<Arc<Outbound>>>,
    endpoints: Lookups<Arc<str>, Option<Arc<EndpointSet>>>,
    inbound: Lookups<u16, Option<Arc<ServerPolicy>>>,
}

impl Discovery {
    /// Creates a handle, and the driver that answers its lookups.
    pub fn new<C: ControlPlane>(config: Config, control_plane: C) -> (Self, Driver<C>) {
        let discovery = Self::unanswered(config);
        let driver = Driver::new(discovery.clone(), control_plane);
        (discovery, driver)
    }

    /// Creates a handle whose answers are scripted, for tests.
    #[cfg(any(test, feature = "script"))]
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
        let limit = limits::DISCOVERY_TARGETS;
        let metrics = || config.metrics.clone();
        Self(Arc::new(Inner {
            outbound: Lookups::new(
                limit,
                metrics(),
                outbound
                    .into_iter()
                    .map(|(target, cached)| (target, persist::restore(cached))),
            ),
            endpoints: Lookups::new(
                limit,
                metrics(),
                endpoints.into_iter().map(|(path, set)| (path, Some(set))),
            ),
            inbound: Lookups::new(
                limits::UNDECLARED_PORTS,
                metrics(),
                inbound.into_iter().map(|(port, policy)| (port, Some(policy))),
            ),
            config,
        }))
    }

    /// Watches policy and profile of an outbound target. `None` until both are known, then always `Some`.
    pub fn outbound(&self, target: &OutboundTarget) -> watch::Receiver<Option<Arc<Outbound>>> {
        self.0.outbound.subscribe(target, || None)
    }

    /// Watches the endpoints of `name:port`. `None` until the first answer.
    pub fn endpoints(&self, path: &str) -> watch::Receiver<Option<Arc<EndpointSet>>> {
        self.0.endpoints.subscribe(&Arc::from(path), || None)
    }

    /// Watches the policy of a port of this workload. The watch is closed if there are too many lookups. Policies are
    /// normalised: HTTP always has a route, and connections from this host are authorized.
    pub fn inbound(&self, port: u16) -> PolicyWatch {
        let config = &self.0.config;
        let default = || Arc::new(config.default_policy.for_port(port, &config.opaque_ports));
        self.0.inbound.subscribe(&port, || config.fail_open.then(default))
    }

    /// Watches the policy of a port that the workload declares, whatever other ports are asked for. The watch must be
    /// held for the life of the process.
    pub fn declared(&self, port: u16) -> PolicyWatch {
        self.0.inbound.reserve();
        self.inbound(port)
    }

    /// Returns every lookup with the age of its answer.
    pub fn status(&self) -> Vec<Status> {
        let mut all = self.0.outbound.status("outbound", OutboundTarget::to_string);
        all.extend(self.0.endpoints.status("endpoints", |path| path.to_string()));
        all.extend(self.0.inbound.status("inbound", u16::to_string));
        all
    }
}
