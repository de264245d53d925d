//! Conversion of answers to and from the cache that outlives the process.

use std::sync::Arc;

use proxy_model::{CachedOutbound, DiscoveryCache};
use tokio::time::Instant;

use crate::{Discovery, Outbound, Source};

impl Discovery {
    /// Returns all current answers, including unused ones of an earlier process.
    pub fn answers(&self) -> DiscoveryCache {
        let outbound = self.0.outbound.answers().into_iter().filter_map(|(target, known)| {
            let known = known?;
            let cached = CachedOutbound {
                policy: Arc::clone(&known.policy),
                profile: known.profile.clone(),
                is_synthesised: known.source == Source::Synthesised,
            };
            Some((target, cached))
        });
        let endpoints = self.0.endpoints.answers().into_iter();
        let inbound = self.0.inbound.answers().into_iter();
        DiscoveryCache {
            inbound: inbound.filter_map(|(port, policy)| Some((port, policy?))).collect(),
            outbound: outbound.collect(),
            endpoints: endpoints.filter_map(|(path, set)| Some((path, set?))).collect(),
        }
    }

    /// Returns a number that changes with every answer.
    pub fn changes(&self) -> u64 {
        let changes = [
            self.0.outbound.changes(),
            self.0.endpoints.changes(),
            self.0.inbound.changes(),
        ];
        changes.into_iter().fold(0, u64::wrapping_add)
    }
}

/// Restores an answer of an earlier process.
pub(crate) fn restore(cached: CachedOutbound) -> Option<Arc<Outbound>> {
    let source = if cached.is_synthesised {
        Source::Synthesised
    } else {
        Source::ControlPlane
    };
    let answer = Outbound {
        policy: cached.policy,
        profile: cached.profile,
        source,
        since: Instant::now(),
    };
    Some(Arc::new(answer))
}
