//! The endpoints of one service, and the better of two of them.
//!
//! A balancer has no task of its own. Whoever asks it first takes in what discovery says now; whoever finds nothing ready
//! waits until something changes, but not for longer than the failfast time.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use proxy_core::balance;
use proxy_metrics::outbound::BalancerSlot;
use proxy_model::{
    EndpointSet, limits,
    outbound::{FailureAccrual, Load},
};
use tokio::sync::{Notify, watch};

use crate::{
    endpoint::{Endpoint, Seed},
    worker::Shared,
};

/// Share of the failfast time (a third: 1 s by default) that a new backend's share waits for its first endpoints; afterwards
/// the other backends take it. Discovery answers within milliseconds, so a longer silence means that the control plane is
/// away.
const FIRST_ANSWER: u32 = 3;

/// The endpoints that `path` leads to.
#[derive(Debug)]
pub(crate) struct Balancer {
    shared: Rc<Shared>,
    /// `name:port`.
    path: Arc<str>,
    receiver: RefCell<watch::Receiver<Option<Arc<EndpointSet>>>>,
    endpoints: RefCell<Vec<Rc<Endpoint>>>,
    /// Until when the first endpoints are worth a wait.
    awaited: Instant,
    answered: Cell<bool>,
    load: Cell<Load>,
    accrual: Cell<Option<FailureAccrual>>,
    changed: Rc<Notify>,
    slot: BalancerSlot,
}

impl Balancer {
    pub(crate) fn new(
        shared: &Rc<Shared>,
        path: &Arc<str>,
        policy: (Load, Option<FailureAccrual>),
        slot: BalancerSlot,
    ) -> Rc<Self> {
        let mut receiver = shared.discovery.endpoints(path);
        receiver.mark_changed();
        Rc::new(Self {
            shared: shared.clone(),
            path: path.clone(),
            receiver: RefCell::new(receiver),
            endpoints: RefCell::default(),
            awaited: Instant::now() + shared.config.failfast / FIRST_ANSWER,
            answered: Cell::new(false),
            load: Cell::new(policy.0),
            accrual: Cell::new(policy.1),
            changed: Rc::new(Notify::new()),
            slot,
        })
    }

    /// A policy that may have changed. What is known of the endpoints stays.
    pub(crate) fn configure(&self, load: Load, accrual: Option<FailureAccrual>) {
        self.load.set(load);
        if self.accrual.get() != accrual {
            self.accrual.set(accrual);
            self.endpoints
                .borrow()
                .iter()
                .for_each(|e| e.set_accrual(accrual.as_ref()));
        }
    }

    /// How load is estimated.
    pub(crate) fn load(&self) -> Load {
        self.load.get()
    }

    /// Told whenever an endpoint may have become ready.
    pub(crate) fn changed(&self) -> &Notify {
        &self.changed
    }

    /// What discovery says, for waiting on it.
    pub(crate) fn receiver(&self) -> watch::Receiver<Option<Arc<EndpointSet>>> {
        self.receiver.borrow().clone()
    }

    /// Whether an endpoint could take a request now, or the first ones are about to come: a split's share is worth a
    /// moment's wait, or each start would send it to the wrong version.
    pub(crate) fn is_ready(&self, now: Instant) -> bool {
        self.update();
        self.is_awaited(now) || self.endpoints.borrow().iter().any(|e| e.is_ready(now))
    }

    fn is_awaited(&self, now: Instant) -> bool {
        !self.answered.get() && now < self.awaited
    }

    /// The earliest time at which an endpoint may be ready again by itself.
    pub(crate) fn ready_at(&self) -> Option<Instant> {
        let patience = self.is_awaited(Instant::now()).then_some(self.awaited);
        let endpoints = self.endpoints.borrow();
        endpoints.iter().filter_map(|e| e.ready_at()).chain(patience).min()
    }

    /// An endpoint for a request; `tried` ones only if there is no other.
    pub(crate) fn pick(&self, now: Instant, tried: &[SocketAddr]) -> Option<Rc<Endpoint>> {
        self.update();
        let endpoints = self.endpoints.borrow();
        if let [only] = endpoints.as_slice() {
            // Without a choice, what it would cost does not matter.
            return only.is_ready(now).then(|| only.clone());
        }
        let rng = &mut *self.shared.rng.borrow_mut();
        let cost = |i: usize| {
            let endpoint: &Rc<Endpoint> = &endpoints[i];
            endpoint.is_ready(now).then(|| endpoint.load.cost(now))
        };
        let fresh = |i: usize| (!tried.contains(&endpoints[i].model.addr)).then(|| cost(i)).flatten();
        let picked = if tried.is_empty() {
            None
        } else {
            balance::p2c(endpoints.len(), rng, fresh)
        };
        let picked = picked.or_else(|| balance::p2c(endpoints.len(), rng, cost));
        picked.map(|i| endpoints[i].clone())
    }

    /// Takes in what discovery says now.
    pub(crate) fn update(&self) {
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
        let accrual = self.accrual.get();
        for model in set.endpoints.values().take(limits::ENDPOINTS_PER_SERVICE.value) {
            let seed = Seed {
                shared: &self.shared,
                model,
                set_labels: &set.labels,
                authority: Some(authority),
                ewma,
                accrual: accrual.as_ref(),
                changed: &self.changed,
            };
            let known = old.binary_search_by_key(&model.addr, |e| e.model.addr).ok();
            // The same endpoint keeps all that is known of it; one with other metadata is another endpoint.
            match known.map(|i| &old[i]).filter(|e| e.is_as(model, &set.labels)) {
                Some(endpoint) => endpoints.push(endpoint.clone()),
                None => endpoints.push(Endpoint::new(&seed)),
            }
        }
        old.clear();
        for _ in limits::ENDPOINTS_PER_SERVICE.value..set.endpoints.len() {
            self.shared.metrics.limit_refused(limits::ENDPOINTS_PER_SERVICE);
        }
        let now = Instant::now();
        let ready = endpoints.iter().filter(|e| e.is_ready(now)).count();
        self.slot.endpoints(ready, endpoints.len() - ready);
        drop(endpoints);
        self.changed.notify_waiters();
    }
}
