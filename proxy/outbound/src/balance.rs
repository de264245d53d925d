//! Balancer for the endpoints of one service: picks the better of two.
//!
//! A balancer has no task of its own. A caller first applies the newest answer of discovery, and waits for a change if
//! no endpoint is ready, up to the failfast time.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use proxy_core::balance;
use proxy_metrics::outbound::BalancerSlot;
use proxy_model::{EndpointSet, outbound::Load};
use tokio::sync::watch;

use crate::{
    breakers::{BreakerGroup, EndpointBreaker},
    context::Context,
    endpoint::{Changes, Endpoint, EndpointParams, Unready},
};

/// Divisor of the failfast time (a third of it: 1 s by default) for which requests of a new backend wait for its first
/// endpoints; afterwards they go to other backends. Discovery answers within milliseconds, so a longer silence means
/// that the control plane is unavailable.
const FIRST_ANSWER_DIVISOR: u32 = 3;

/// Balancer for the endpoints of `path`.
#[derive(Debug)]
pub(crate) struct Balancer {
    context: Rc<Context>,
    /// `name:port`.
    path: Arc<str>,
    receiver: RefCell<watch::Receiver<Option<Arc<EndpointSet>>>>,
    endpoints: RefCell<Vec<Rc<Endpoint>>>,
    /// Deadline for the first endpoints; until then the balancer counts as ready.
    awaited: Instant,
    answered: Cell<bool>,
    load: Cell<Load>,
    /// Breakers of the endpoints, if the policy has failure accrual.
    breakers: RefCell<Option<Arc<BreakerGroup>>>,
    /// Changes of endpoints and breakers that the metrics show already.
    seen: Cell<u32>,
    changes: Rc<Changes>,
    slot: BalancerSlot,
}

/// Endpoints that take no requests, for people.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UnreadyCounts {
    pub(crate) all: usize,
    pub(crate) ejected: usize,
    pub(crate) unreachable: usize,
}

impl Balancer {
    pub(crate) fn new(
        context: &Rc<Context>,
        path: &Arc<str>,
        load: Load,
        breakers: Option<Arc<BreakerGroup>>,
        slot: BalancerSlot,
    ) -> Rc<Self> {
        let mut receiver = context.discovery.endpoints(path);
        receiver.mark_changed();
        Rc::new(Self {
            context: context.clone(),
            path: path.clone(),
            receiver: RefCell::new(receiver),
            endpoints: RefCell::default(),
            awaited: Instant::now() + context.config.failfast / FIRST_ANSWER_DIVISOR,
            answered: Cell::new(false),
            load: Cell::new(load),
            breakers: RefCell::new(breakers),
            seen: Cell::new(0),
            changes: Rc::default(),
            slot,
        })
    }

    /// `name:port` of the service.
    pub(crate) fn path(&self) -> &Arc<str> {
        &self.path
    }

    /// Applies a policy that may have changed. Endpoints keep their state.
    pub(crate) fn configure(&self, load: Load, breakers: Option<Arc<BreakerGroup>>) {
        self.load.set(load);
        let is_same = match (&*self.breakers.borrow(), &breakers) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, None) => true,
            _ => false,
        };
        if is_same {
            return;
        }
        let endpoints = self.endpoints.borrow();
        for endpoint in &*endpoints {
            endpoint.set_breaker(self.breaker(breakers.as_ref(), endpoint.model.addr));
        }
        if let Some(group) = &breakers {
            group.settle(endpoints.iter().map(|endpoint| endpoint.model.addr));
        }
        *self.breakers.borrow_mut() = breakers;
    }

    fn breaker(&self, group: Option<&Arc<BreakerGroup>>, addr: SocketAddr) -> Option<Arc<EndpointBreaker>> {
        group?.endpoint(addr, &self.context.metrics)
    }

    /// Load estimation of the policy.
    pub(crate) fn load(&self) -> Load {
        self.load.get()
    }

    /// Waits until an endpoint may have become ready, by this worker's knowledge or another's.
    pub(crate) fn changed(&self) -> impl Future<Output = ()> + use<'_> {
        let here = self.changes.notify().notified();
        let breakers = self.breakers.borrow();
        let elsewhere = breakers.as_ref().map(|group| group.changed().clone().notified_owned());
        async move {
            match elsewhere {
                None => here.await,
                Some(elsewhere) => {
                    tokio::select! { () = here => {}, () = elsewhere => {} }
                }
            }
        }
    }

    /// Counts the endpoints, and those that failure accrual or a failed connect keeps from requests.
    pub(crate) fn unready(&self, now: Instant) -> UnreadyCounts {
        let endpoints = self.endpoints.borrow();
        let count = |state| endpoints.iter().filter(|e| e.unready_as(now) == Some(state)).count();
        UnreadyCounts {
            all: endpoints.len(),
            ejected: count(Unready::Ejected),
            unreachable: count(Unready::Unreachable),
        }
    }

    /// Watch on the endpoint set.
    pub(crate) fn receiver(&self) -> watch::Receiver<Option<Arc<EndpointSet>>> {
        self.receiver.borrow().clone()
    }

    /// Returns true if an endpoint can take a request, or the first endpoints are still awaited: without the short
    /// wait, each start would send a split's requests to the wrong version.
    pub(crate) fn is_ready(&self, now: Instant) -> bool {
        self.update();
        self.is_awaited(now) || self.endpoints.borrow().iter().any(|e| e.is_ready(now))
    }

    fn is_awaited(&self, now: Instant) -> bool {
        !self.answered.get() && now < self.awaited
    }

    /// Earliest time at which an endpoint may become ready without any event.
    pub(crate) fn ready_at(&self) -> Option<Instant> {
        let patience = self.is_awaited(Instant::now()).then_some(self.awaited);
        let endpoints = self.endpoints.borrow();
        endpoints.iter().filter_map(|e| e.ready_at()).chain(patience).min()
    }

    /// Picks an endpoint for a request; an excluded one only if there is no other.
    pub(crate) fn pick(&self, now: Instant, excluded: &[SocketAddr]) -> Option<Rc<Endpoint>> {
        self.update();
        let endpoints = self.endpoints.borrow();
        if let [only] = endpoints.as_slice() {
            // The cost of the only endpoint does not matter.
            return only.is_ready(now).then(|| only.clone());
        }
        let rng = &mut *self.context.rng.borrow_mut();
        let cost = |i: usize| {
            let endpoint: &Rc<Endpoint> = &endpoints[i];
            endpoint.is_ready(now).then(|| endpoint.load.cost(now))
        };
        let fresh = |i: usize| {
            (!excluded.contains(&endpoints[i].model.addr))
                .then(|| cost(i))
                .flatten()
        };
        let preferred = if excluded.is_empty() {
            None
        } else {
            balance::p2c(endpoints.len(), rng, fresh)
        };
        let picked = preferred.or_else(|| balance::p2c(endpoints.len(), rng, cost));
        picked.map(|i| endpoints[i].clone())
    }

    /// Applies the newest endpoint set. Follows the changes of breakers in the metrics.
    pub(crate) fn update(&self) {
        let of_breakers = self.breakers.borrow().as_ref().map_or(0, |group| group.changes());
        let changes = self.changes.count().wrapping_add(of_breakers);
        if self.seen.replace(changes) != changes {
            self.gauge();
        }
        let mut receiver = self.receiver.borrow_mut();
        if !receiver.has_changed().unwrap_or(false) {
            return;
        }
        let Some(set) = receiver.borrow_and_update().clone() else {
            return;
        };
        self.answered.set(true);
        let mut endpoints = self.endpoints.borrow_mut();
        let mut old = std::mem::take(&mut *endpoints);
        let authority = self.path.strip_suffix(":80").unwrap_or(&self.path);
        let ewma = balance::params(&self.load.get());
        let breakers = self.breakers.borrow().clone();
        for model in set.endpoints.values() {
            let params = EndpointParams {
                context: &self.context,
                model,
                set_labels: &set.labels,
                authority: Some(authority),
                ewma,
                breaker: self.breaker(breakers.as_ref(), model.addr),
                changes: &self.changes,
            };
            let known = old.binary_search_by_key(&model.addr, |e| e.model.addr).ok();
            // An unchanged endpoint keeps its state; one with other metadata is a new endpoint.
            match known.map(|i| &old[i]).filter(|e| e.is_same(model, &set.labels)) {
                Some(endpoint) => endpoints.push(endpoint.clone()),
                None => endpoints.push(Endpoint::new(&params)),
            }
        }
        old.clear();
        if let Some(group) = &breakers {
            group.settle(endpoints.iter().map(|endpoint| endpoint.model.addr));
        }
        drop(endpoints);
        self.gauge();
        self.changes.notify().notify_waiters();
    }

    fn gauge(&self) {
        let counts = self.unready(Instant::now());
        let unready = counts.ejected + counts.unreachable;
        self.slot.endpoints(counts.all - unready, unready);
    }
}
