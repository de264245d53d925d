//! Scripted answers, for tests of the crates that use discovery.

use std::sync::Arc;

use proxy_model::{ClientPolicy, Endpoint, EndpointSet, OutboundTarget, Profile, ServerPolicy, defaults};
use tokio::time::Instant;

use crate::{Discovery, Outbound, Source, fallback::forward_policy, port_policy::normalise};

/// Sets the answers of a [`Discovery`].
#[derive(Clone, Debug)]
pub struct Script(Discovery);

impl Script {
    pub(crate) fn new(discovery: Discovery) -> Self {
        Self(discovery)
    }

    /// Answers an outbound lookup.
    pub fn outbound(&self, target: &OutboundTarget, policy: ClientPolicy, profile: Option<Profile>) {
        let (policy, profile) = (Arc::new(policy), profile.map(Arc::new));
        let answer = Outbound {
            policy,
            profile,
            source: Source::ControlPlane,
            since: Instant::now(),
        };
        self.0.0.outbound.answer(target, Some(Arc::new(answer)));
    }

    /// Answers an outbound lookup with a synthesised policy: one endpoint, with detection.
    pub fn forward(&self, target: &OutboundTarget, endpoint: Endpoint) {
        self.outbound(
            target,
            forward_policy(Arc::new(endpoint), defaults::DETECT_TIMEOUT),
            None,
        );
    }

    /// Answers an endpoint lookup.
    pub fn endpoints(&self, path: &str, endpoints: impl IntoIterator<Item = Endpoint>) {
        let endpoints = endpoints.into_iter().map(|e| (e.addr, Arc::new(e))).collect();
        self.endpoint_set(
            path,
            EndpointSet {
                exists: true,
                endpoints,
                ..EndpointSet::default()
            },
        );
    }

    /// Answers an endpoint lookup with a set.
    pub fn endpoint_set(&self, path: &str, set: EndpointSet) {
        self.0.0.endpoints.answer(&path.into(), Some(Arc::new(set)));
    }

    /// Answers an inbound lookup; the policy is normalised as a real one is.
    pub fn inbound(&self, port: u16, policy: ServerPolicy) {
        self.0.0.inbound.answer(&port, Some(Arc::new(normalise(policy))));
    }

    /// Ports that were looked up.
    pub fn inbound_ports(&self) -> Vec<u16> {
        self.0.0.inbound.keys()
    }
}
