//! Rate limits of a port: in total, and per client. Counted once per process, so the state is shared by the workers and
//! survives policy updates that do not change the limit.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use proxy_core::ratelimit::Gcra;
use proxy_model::{Id, Meta, ServerProtocol, inbound::RateLimit, limits};
use rustc_hash::FxHashMap;

/// Rate limits of all ports of a process.
#[derive(Clone, Debug, Default)]
pub struct RateLimits(Arc<Mutex<FxHashMap<u16, Arc<PortLimit>>>>);

/// Limit that a request exceeded.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum LimitScope {
    Total,
    Client,
}

impl LimitScope {
    pub(crate) fn scope(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Client => "identity",
        }
    }
}

/// Rate limit of one port.
#[derive(Debug)]
pub(crate) struct PortLimit {
    rule: RateLimit,
    total: Option<Gcra>,
    /// By identity; clients without one share an entry.
    clients: Mutex<FxHashMap<Option<Id>, Arc<Gcra>>>,
}

/// Returns the rate limit of a policy.
pub(crate) fn rule(protocol: &ServerProtocol) -> Option<&RateLimit> {
    match protocol {
        ServerProtocol::Detect { rate_limit, .. }
        | ServerProtocol::Http1 { rate_limit, .. }
        | ServerProtocol::Http2 { rate_limit, .. } => rate_limit.as_ref(),
        ServerProtocol::Grpc { .. } | ServerProtocol::Opaque | ServerProtocol::Tls => None,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The counts remain valid if a thread panics while holding the lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RateLimits {
    /// Returns the limit of a port; an equal rule keeps its counts.
    pub(crate) fn get_or_create(&self, port: u16, rule: &RateLimit) -> Arc<PortLimit> {
        let mut ports = lock(&self.0);
        if let Some(limit) = ports.get(&port)
            && limit.rule == *rule
        {
            return limit.clone();
        }
        let limit = Arc::new(PortLimit::new(rule.clone()));
        ports.insert(port, limit.clone());
        limit
    }
}

impl PortLimit {
    fn new(rule: RateLimit) -> Self {
        let total = rule
            .total
            .and_then(NonZeroU32::new)
            .map(|rate| Gcra::new(rate, Instant::now()));
        Self {
            rule,
            total,
            clients: Mutex::default(),
        }
    }

    /// Returns the resource that the limit comes from.
    pub(crate) fn meta(&self) -> Option<&Meta> {
        self.rule.meta.as_ref()
    }

    /// Accounts for a request of this client.
    pub(crate) fn admit(&self, client: Option<&Id>, now: Instant) -> Result<(), LimitScope> {
        // A limit of 0 admits nothing.
        if self.rule.total == Some(0) || self.total.as_ref().is_some_and(|total| !total.admit(now)) {
            return Err(LimitScope::Total);
        }
        let Some(rate) = self.rate_of(client) else {
            return Ok(());
        };
        let Some(rate) = NonZeroU32::new(rate) else {
            return Err(LimitScope::Client);
        };
        if self.limiter(client, rate, now).admit(now) {
            Ok(())
        } else {
            Err(LimitScope::Client)
        }
    }

    fn rate_of(&self, client: Option<&Id>) -> Option<u32> {
        let special = self
            .rule
            .overrides
            .iter()
            .find(|special| client.is_some_and(|id| special.clients.contains(id)));
        special
            .map(|special| special.requests_per_second)
            .or(self.rule.identity)
    }

    fn limiter(&self, client: Option<&Id>, rate: NonZeroU32, now: Instant) -> Arc<Gcra> {
        let mut clients = lock(&self.clients);
        let mut key = client.cloned();
        if let Some(limiter) = clients.get(&key) {
            return limiter.clone();
        }
        if clients.len() >= limits::RATE_LIMITED_CLIENTS.value {
            clients.retain(|_, limiter| !limiter.is_idle(now));
        }
        if clients.len() >= limits::RATE_LIMITED_CLIENTS.value {
            key = None;
        }
        clients
            .entry(key)
            .or_insert_with(|| Arc::new(Gcra::new(rate, now)))
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use proxy_model::inbound::RateLimitOverride;

    use super::*;

    #[test]
    fn counts_clients_separately_and_applies_overrides() {
        let id = |name: &str| name.parse::<Id>().expect("valid");
        let vip = RateLimitOverride {
            requests_per_second: 3,
            clients: vec![id("vip.local")],
        };
        let rule = RateLimit {
            meta: None,
            total: Some(6),
            identity: Some(1),
            overrides: vec![vip],
        };
        let limits = RateLimits::default();
        let limit = limits.get_or_create(80, &rule);
        let now = Instant::now();
        let admitted = |client: Option<&Id>| (0..4).filter(|_| limit.admit(client, now).is_ok()).count();
        assert_eq!(limit.admit(Some(&id("a.local")), now), Ok(()));
        assert_eq!(limit.admit(Some(&id("a.local")), now), Err(LimitScope::Client));
        assert_eq!(admitted(Some(&id("vip.local"))), 3);
        assert_eq!(limit.admit(None, now), Err(LimitScope::Total));
        assert!(
            Arc::ptr_eq(&limit, &limits.get_or_create(80, &rule)),
            "an equal rule keeps its counts"
        );
    }
}
