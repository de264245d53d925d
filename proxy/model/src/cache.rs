//! Answers of the control plane that outlive the process: a restarted proxy starts with them.

use std::sync::Arc;

use crate::{ClientPolicy, EndpointSet, OutboundTarget, Profile, ServerPolicy};

/// Answers by target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DiscoveryCache {
    /// Normalised policies of ports of this workload.
    pub inbound: Vec<(u16, Arc<ServerPolicy>)>,
    /// Policies and profiles of outbound targets.
    pub outbound: Vec<(OutboundTarget, CachedOutbound)>,
    /// Endpoints by `name:port`.
    pub endpoints: Vec<(Arc<str>, Arc<EndpointSet>)>,
}

/// Cached answer for an outbound target.
#[derive(Clone, Debug, PartialEq)]
pub struct CachedOutbound {
    /// Routes and backends.
    pub policy: Arc<ClientPolicy>,
    /// Service profile.
    pub profile: Option<Arc<Profile>>,
    /// The proxy made the policy, because the control plane did not know the target.
    pub is_synthesised: bool,
}

impl DiscoveryCache {
    /// Returns true if it holds no answers.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of answers.
    pub fn len(&self) -> usize {
        self.inbound.len() + self.outbound.len() + self.endpoints.len()
    }
}
