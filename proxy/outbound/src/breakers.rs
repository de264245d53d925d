//! Breakers of a process: one for each endpoint of a destination with failure accrual, shared by all workers.
//!
//! A request pays for them only where its policy has failure accrual. Then a candidate costs one atomic read, and the
//! request two short locks of its endpoint's breaker. Endpoints of a group know of each other only when one is ejected.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Instant,
};

use proxy_core::{
    breaker::{Breaker, Change, Report, Ticket, most_ejected},
    log_quota::LogQuota,
};
use proxy_metrics::{Recorder, outbound::BreakerSlot};
use proxy_model::{Meta, limits, outbound::FailureAccrual};
use tokio::sync::Notify;

/// Breakers of a process, by destination. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Breakers(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    groups: Mutex<HashMap<GroupKey, Weak<BreakerGroup>>>,
    log: Mutex<LogQuota>,
}

/// Destination whose endpoints share a policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GroupKey {
    /// `name:port` of the service, or an address.
    pub(crate) path: Arc<str>,
    /// Object whose policy it is.
    pub(crate) parent: Meta,
    /// Object of the endpoints.
    pub(crate) backend: Meta,
}

/// Breakers of the endpoints of one destination.
#[derive(Debug)]
pub(crate) struct BreakerGroup {
    shared: Arc<Shared>,
    key: GroupKey,
    policy: FailureAccrual,
    members: Mutex<Members>,
    /// Notified when an endpoint is ejected or readmitted.
    changed: Arc<Notify>,
    changes: AtomicU32,
}

#[derive(Debug, Default)]
struct Members {
    /// Endpoints that the destination has now.
    current: Vec<SocketAddr>,
    known: HashMap<SocketAddr, Weak<EndpointBreaker>>,
}

/// Breaker of one endpoint.
#[derive(Debug)]
pub(crate) struct EndpointBreaker {
    group: Arc<BreakerGroup>,
    addr: SocketAddr,
    /// True unless the endpoint is ejected or on probation. Cleared under the lock of the group's members, so that two
    /// endpoints never take the last place at the same time.
    is_closed: AtomicBool,
    honors_retry_after: bool,
    breaker: Mutex<Breaker>,
    slot: BreakerSlot,
}

impl Breakers {
    /// Returns the group for `key`; creates it if it does not exist or its policy has changed. `None` for a policy
    /// without a breaker.
    pub(crate) fn group(&self, key: GroupKey, policy: Option<FailureAccrual>) -> Option<Arc<BreakerGroup>> {
        let policy = policy.filter(|policy| !matches!(policy, FailureAccrual::None { .. }))?;
        let mut groups = lock(&self.0.groups);
        if let Some(group) = groups.get(&key).and_then(Weak::upgrade)
            && group.policy == policy
        {
            return Some(group);
        }
        let group = Arc::new(BreakerGroup {
            shared: self.0.clone(),
            key: key.clone(),
            policy,
            members: Mutex::default(),
            changed: Arc::default(),
            changes: AtomicU32::new(0),
        });
        groups.retain(|_, group| group.strong_count() > 0);
        groups.insert(key, Arc::downgrade(&group));
        Some(group)
    }
}

impl BreakerGroup {
    /// Returns the breaker of an endpoint; creates it if it does not exist.
    pub(crate) fn endpoint(self: &Arc<Self>, addr: SocketAddr, metrics: &Recorder) -> Option<Arc<EndpointBreaker>> {
        let mut members = lock(&self.members);
        if let Some(known) = members.known.get(&addr).and_then(Weak::upgrade) {
            return Some(known);
        }
        let breaker = Breaker::new(&self.policy, Instant::now())?;
        let breaker = Arc::new(EndpointBreaker {
            group: self.clone(),
            addr,
            is_closed: AtomicBool::new(true),
            honors_retry_after: breaker.honors_retry_after(),
            breaker: Mutex::new(breaker),
            slot: metrics.breaker(&self.key.parent, &self.key.backend, addr),
        });
        members.known.insert(addr, Arc::downgrade(&breaker));
        Some(breaker)
    }

    /// Replaces the endpoints of the destination. Readmits ejected ones that it can no longer spare.
    pub(crate) fn settle(&self, current: impl Iterator<Item = SocketAddr>) {
        let mut members = lock(&self.members);
        members.current = current.collect();
        members.known.retain(|_, known| known.strong_count() > 0);
        let mut ejected = members.ejected();
        let most = most_ejected(self.policy.ejection(), members.current.len());
        drop(members);
        let excess = ejected.len().saturating_sub(most);
        if excess > 0 {
            ejected.sort_by_key(|breaker| breaker.ready_at());
            ejected.iter().take(excess).for_each(|breaker| breaker.release());
        }
    }

    /// Ejects an endpoint, unless the others would be too few.
    fn eject(&self, breaker: &EndpointBreaker) -> bool {
        let members = lock(&self.members);
        let most = most_ejected(self.policy.ejection(), members.current.len());
        let others = members
            .ejected()
            .iter()
            .filter(|other| other.addr != breaker.addr)
            .count();
        let is_member = members.current.contains(&breaker.addr);
        let may_eject = !is_member || others < most;
        if may_eject {
            breaker.is_closed.store(false, Relaxed);
        }
        may_eject
    }

    /// Notified when an endpoint is ejected or readmitted, by any worker.
    pub(crate) fn changed(&self) -> &Arc<Notify> {
        &self.changed
    }

    /// Number of changes so far.
    pub(crate) fn changes(&self) -> u32 {
        self.changes.load(Relaxed)
    }
}

impl Members {
    fn ejected(&self) -> Vec<Arc<EndpointBreaker>> {
        let known = self.current.iter().filter_map(|addr| self.known.get(addr)?.upgrade());
        known.filter(|breaker| !breaker.is_closed()).collect()
    }
}

impl EndpointBreaker {
    /// Returns true if the endpoint may get a request now.
    pub(crate) fn is_ready(&self, now: Instant) -> bool {
        self.is_closed() || lock(&self.breaker).is_ready(now)
    }

    /// Returns true unless the endpoint is ejected or on probation.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Relaxed)
    }

    /// Time at which the next probe may be sent.
    pub(crate) fn ready_at(&self) -> Option<Instant> {
        lock(&self.breaker).ready_at()
    }

    /// Returns true if `retry-after` of a response matters.
    pub(crate) fn honors_retry_after(&self) -> bool {
        self.honors_retry_after
    }

    /// Takes a ticket for one request.
    pub(crate) fn admit(&self, now: Instant) -> Option<Ticket> {
        lock(&self.breaker).admit(now)
    }

    /// Records the end of a request.
    pub(crate) fn record(&self, ticket: Ticket, report: Report, rng: &mut fastrand::Rng) {
        let mut breaker = lock(&self.breaker);
        if let Some(change) = breaker.record(ticket, report, rng, || self.group.eject(self)) {
            self.apply(breaker, change);
        }
    }

    /// Records a request that ended without an outcome.
    pub(crate) fn abandon(&self, ticket: Ticket, now: Instant) {
        lock(&self.breaker).abandon(ticket, now);
        if !self.is_closed() {
            self.group.changed.notify_waiters();
        }
    }

    fn release(&self) {
        let mut breaker = lock(&self.breaker);
        if let Some(change) = breaker.release(Instant::now()) {
            self.apply(breaker, change);
        }
    }

    /// Makes a change visible. The lock is held until the metrics are written, which have one writer at a time.
    #[cold]
    fn apply(&self, breaker: MutexGuard<'_, Breaker>, change: Change) {
        self.is_closed.store(breaker.is_closed(), Relaxed);
        self.slot.set(!breaker.is_closed());
        if matches!(change, Change::Opened { .. }) {
            self.slot.ejections.inc();
        }
        drop(breaker);
        self.group.changes.fetch_add(1, Relaxed);
        self.group.changed.notify_waiters();
        self.log(change);
    }

    fn log(&self, change: Change) {
        let quota = lock(&self.group.shared.log).admit(limits::BREAKERS_LOGGED.value, Instant::now());
        let Some(suppressed) = quota else { return };
        let (service, endpoint) = (&*self.group.key.path, self.addr);
        match change {
            Change::Opened { wait } => {
                tracing::info!(service, %endpoint, ?wait, suppressed, "Endpoint ejected by failure accrual");
            }
            Change::StaysOpen { wait } => {
                tracing::info!(service, %endpoint, ?wait, suppressed, "Probe of an ejected endpoint failed");
            }
            Change::Closed => tracing::info!(service, %endpoint, suppressed, "Endpoint readmitted by failure accrual"),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
