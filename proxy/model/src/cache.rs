//! What the control plane has said, as it outlives the process: a restarted proxy starts with it.

use std::sync::Arc;

use crate::{ClientPolicy, EndpointSet, OutboundTarget, Profile, ServerPolicy};

/// Answers by what was asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DiscoveryCache {
    /// Policies of ports of this workload, ready for use.
    pub inbound: Vec<(u16, Arc<ServerPolicy>)>,
    /// Policies and profiles of outbound targets.
    pub outbound: Vec<(OutboundTarget, CachedOutbound)>,
    /// Endpoints by `name:port`.
    pub endpoints: Vec<(Arc<str>, Arc<EndpointSet>)>,
}

/// What is known of an outbound target.
#[derive(Clone, Debug, PartialEq)]
pub struct CachedOutbound {
    /// Routes and backends.
    pub policy: Arc<ClientPolicy>,
    /// The older form.
    pub profile: Option<Arc<Profile>>,
    /// The control plane knew nothing, and the proxy made the policy.
    pub is_synthesised: bool,
}

impl DiscoveryCache {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Answers in it.
    pub fn len(&self) -> usize {
        self.inbound.len() + self.outbound.len() + self.endpoints.len()
    }
}
