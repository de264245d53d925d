//! State of one worker: its targets, balancers and endpoints, each under its key.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::{Rc, Weak},
    sync::Arc,
    time::{Duration, Instant},
};

use proxy_core::balance;
use proxy_metrics::{Recorder, TransportSlot};
use proxy_model::{
    Meta, OrigDstAddr, limits,
    outbound::{FailureAccrual, Load},
};
use proxy_transport::timers;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use crate::{
    Budgets, Config, Deps,
    balance::Balancer,
    discover::Target,
    endpoint::{Endpoint, EndpointParams},
};

/// The outbound side of one worker.
#[derive(Debug)]
pub struct Worker {
    pub(crate) shared: Rc<Shared>,
    targets: RefCell<FxHashMap<SocketAddr, Rc<Target>>>,
    sweeping: Cell<bool>,
    pub(crate) connections: Cell<usize>,
}

/// Handles and maps that everything on this worker uses.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) discovery: proxy_discovery::Discovery,
    pub(crate) tls: proxy_tls::Tls,
    pub(crate) metrics: Recorder,
    pub(crate) tap: proxy_http::tap::Registry,
    pub(crate) budgets: Budgets,
    pub(crate) config: Config,
    pub(crate) rng: RefCell<fastrand::Rng>,
    balancers: RefCell<FxHashMap<BalancerKey, Weak<Balancer>>>,
    forwards: RefCell<FxHashMap<SocketAddr, Weak<Endpoint>>>,
}

/// Traffic of a balancer. Requests and connections have separate load estimates.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum BalancerKind {
    /// Requests.
    Http,
    /// Connections.
    Tcp,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct BalancerKey {
    path: Arc<str>,
    parent: Meta,
    kind: BalancerKind,
}

/// Parameters of a balancer.
pub(crate) struct BalancerSpec<'a> {
    pub(crate) path: &'a Arc<str>,
    pub(crate) parent: &'a Meta,
    pub(crate) backend: &'a Meta,
    pub(crate) kind: BalancerKind,
    pub(crate) load: Load,
    pub(crate) accrual: Option<FailureAccrual>,
}

impl Worker {
    /// Creates a worker. Its connections must be served on one thread, inside a `LocalSet`.
    pub fn new(deps: Deps) -> Rc<Self> {
        let Deps {
            discovery,
            tls,
            metrics,
            tap,
            budgets,
            config,
        } = deps;
        let shared = Rc::new(Shared {
            discovery,
            tls,
            metrics,
            tap,
            budgets,
            config,
            rng: RefCell::new(fastrand::Rng::new()),
            balancers: RefCell::default(),
            forwards: RefCell::default(),
        });
        Rc::new(Self {
            shared,
            targets: RefCell::default(),
            sweeping: Cell::new(false),
            connections: Cell::new(0),
        })
    }

    /// Returns the target for `addr`; it is kept for a while after its last use. `None` when too many are in use.
    pub(crate) fn target(self: &Rc<Self>, addr: OrigDstAddr) -> Option<Rc<Target>> {
        if let Some(target) = self.targets.borrow().get(&addr.0) {
            target.touch();
            return Some(target.clone());
        }
        if self.targets.borrow().len() >= limits::DISCOVERY_TARGETS.value && !self.evict_oldest() {
            self.shared.metrics.limit_refused(limits::DISCOVERY_TARGETS);
            return None;
        }
        let target = Target::new(&self.shared, addr);
        self.targets.borrow_mut().insert(addr.0, target.clone());
        if !self.sweeping.replace(true) {
            tokio::task::spawn_local(sweep(Rc::downgrade(self)));
        }
        Some(target)
    }

    /// Evicts the oldest idle target; false if every target is in use.
    fn evict_oldest(&self) -> bool {
        let mut targets = self.targets.borrow_mut();
        let idle = targets.iter().filter(|(_, t)| Rc::strong_count(t) == 1);
        let Some(addr) = idle.min_by_key(|(_, t)| t.used()).map(|(addr, _)| *addr) else {
            return false;
        };
        targets.remove(&addr);
        true
    }

    /// Removes idle targets; false when none is left.
    fn sweep(&self) -> bool {
        let now = Instant::now();
        let idle = self.shared.config.discovery_idle;
        let mut targets = self.targets.borrow_mut();
        targets.retain(|_, target| {
            if Rc::strong_count(target) > 1 {
                target.touch();
            }
            now.duration_since(target.used()) < idle
        });
        let empty = targets.is_empty();
        drop(targets);
        self.shared
            .balancers
            .borrow_mut()
            .retain(|_, balancer| balancer.strong_count() > 0);
        self.shared
            .forwards
            .borrow_mut()
            .retain(|_, endpoint| endpoint.strong_count() > 0);
        self.sweeping.set(!empty);
        !empty
    }
}

/// Removes idle targets periodically. Ends with the last target, or with the worker.
async fn sweep(worker: Weak<Worker>) {
    loop {
        let Some(idle) = worker.upgrade().map(|w| w.shared.config.discovery_idle) else {
            return;
        };
        timers::sleep((idle / 4).clamp(Duration::from_millis(10), Duration::from_secs(10))).await;
        if !worker.upgrade().is_some_and(|worker| worker.sweep()) {
            return;
        }
    }
}

impl Shared {
    /// Returns the balancer for `spec`; creates it if it does not exist.
    pub(crate) fn balancer(self: &Rc<Self>, spec: &BalancerSpec<'_>) -> Rc<Balancer> {
        let key = BalancerKey {
            path: spec.path.clone(),
            parent: spec.parent.clone(),
            kind: spec.kind,
        };
        if let Some(balancer) = self.balancers.borrow().get(&key).and_then(Weak::upgrade) {
            balancer.configure(spec.load, spec.accrual);
            return balancer;
        }
        let slot = match spec.kind {
            BalancerKind::Http => self.metrics.http_balancer(spec.parent, spec.backend),
            BalancerKind::Tcp => self.metrics.tcp_balancer(spec.parent, spec.backend),
        };
        let balancer = Balancer::new(self, spec.path, (spec.load, spec.accrual), slot);
        self.balancers.borrow_mut().insert(key, Rc::downgrade(&balancer));
        balancer
    }

    /// Returns the endpoint of a backend that is an address; creates it if it does not exist.
    pub(crate) fn forward(
        self: &Rc<Self>,
        model: &Arc<proxy_model::Endpoint>,
        accrual: Option<&FailureAccrual>,
    ) -> Rc<Endpoint> {
        let none = Default::default();
        if let Some(endpoint) = self.forwards.borrow().get(&model.addr).and_then(Weak::upgrade)
            && endpoint.is_same(model, &none)
        {
            return endpoint;
        }
        let endpoint = Endpoint::new(&EndpointParams {
            shared: self,
            model,
            set_labels: &none,
            authority: None,
            ewma: balance::DEFAULT,
            accrual,
            changed: &Rc::new(Notify::new()),
        });
        self.forwards.borrow_mut().insert(model.addr, Rc::downgrade(&endpoint));
        endpoint
    }

    /// Metrics of connections accepted for `addr`.
    pub(crate) fn accepted(&self, addr: OrigDstAddr) -> Arc<TransportSlot> {
        self.metrics.outbound_accept(addr.0)
    }
}
