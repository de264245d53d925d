//! Balancers, single endpoints and queues of one worker, each under its key. Snapshots share them, so that their state
//! survives every update.

use std::{
    cell::{Cell, RefCell},
    hash::Hash,
    net::SocketAddr,
    rc::{Rc, Weak},
    sync::Arc,
};

use proxy_core::balance;
use proxy_model::{
    Meta, OrigDstAddr,
    outbound::{FailureAccrual, Load},
};
use rustc_hash::FxHashMap;

use crate::{
    balance::Balancer,
    breakers::{BreakerGroup, GroupKey},
    context::Context,
    endpoint::{Endpoint, EndpointParams},
};

/// Maps of one worker.
#[derive(Debug)]
pub(crate) struct Endpoints {
    pub(crate) context: Rc<Context>,
    balancers: WeakMap<BalancerKey, Balancer>,
    forwards: WeakMap<SocketAddr, Endpoint>,
    queues: WeakMap<QueueKey, Queue>,
}

type WeakMap<K, V> = RefCell<FxHashMap<K, Weak<V>>>;

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

/// Key of a queue: a target and the backends among which its requests choose.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct QueueKey {
    pub(crate) target: OrigDstAddr,
    pub(crate) kind: BalancerKind,
    /// Names of the backends that can be drawn.
    pub(crate) backends: Vec<Arc<str>>,
}

/// Requests that wait for a backend, and whether they still may.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// No backend was ready for the failfast time: requests are shed until one is.
    pub(crate) failfast: Cell<bool>,
    pub(crate) waiting: Cell<usize>,
}

impl Endpoints {
    pub(crate) fn new(context: Rc<Context>) -> Rc<Self> {
        Rc::new(Self {
            context,
            balancers: RefCell::default(),
            forwards: RefCell::default(),
            queues: RefCell::default(),
        })
    }

    /// Returns the balancer for `spec`; creates it if it does not exist.
    pub(crate) fn balancer(&self, spec: &BalancerSpec<'_>) -> Rc<Balancer> {
        let key = BalancerKey {
            path: spec.path.clone(),
            parent: spec.parent.clone(),
            kind: spec.kind,
        };
        if let Some(balancer) = self.balancers.borrow().get(&key).and_then(Weak::upgrade) {
            balancer.configure(spec.load, self.breakers(spec));
            return balancer;
        }
        let metrics = &self.context.metrics;
        let slot = match spec.kind {
            BalancerKind::Http => metrics.http_balancer(spec.parent, spec.backend),
            BalancerKind::Tcp => metrics.tcp_balancer(spec.parent, spec.backend),
        };
        let balancer = Balancer::new(&self.context, spec.path, spec.load, self.breakers(spec), slot);
        self.balancers.borrow_mut().insert(key, Rc::downgrade(&balancer));
        balancer
    }

    /// Breakers of a balancer for requests. Connections have none.
    fn breakers(&self, spec: &BalancerSpec<'_>) -> Option<Arc<BreakerGroup>> {
        let key = GroupKey {
            path: spec.path.clone(),
            parent: spec.parent.clone(),
            backend: spec.backend.clone(),
        };
        self.context.breakers.group(key, spec.accrual)
    }

    /// Returns the endpoint of a backend that is an address; creates it if it does not exist.
    pub(crate) fn forward(
        &self,
        model: &Arc<proxy_model::Endpoint>,
        meta: &Meta,
        accrual: Option<FailureAccrual>,
    ) -> Rc<Endpoint> {
        let no_labels = Default::default();
        let breaker = accrual.and_then(|accrual| {
            let key = GroupKey {
                path: model.addr.to_string().into(),
                parent: meta.clone(),
                backend: meta.clone(),
            };
            let group = self.context.breakers.group(key, Some(accrual))?;
            group.settle([model.addr].into_iter());
            group.endpoint(model.addr, &self.context.metrics)
        });
        if let Some(endpoint) = self.forwards.borrow().get(&model.addr).and_then(Weak::upgrade)
            && endpoint.is_same(model, &no_labels)
        {
            endpoint.set_breaker(breaker);
            return endpoint;
        }
        let endpoint = Endpoint::new(&EndpointParams {
            context: &self.context,
            model,
            set_labels: &no_labels,
            authority: None,
            ewma: balance::DEFAULT,
            breaker,
            changes: &Rc::default(),
        });
        self.forwards.borrow_mut().insert(model.addr, Rc::downgrade(&endpoint));
        endpoint
    }

    /// Returns the queue for `key`; creates it if it does not exist.
    pub(crate) fn queue(&self, key: QueueKey) -> Rc<Queue> {
        let mut queues = self.queues.borrow_mut();
        if let Some(queue) = queues.get(&key).and_then(Weak::upgrade) {
            return queue;
        }
        let queue = Rc::default();
        queues.insert(key, Rc::downgrade(&queue));
        queue
    }

    /// Removes entries that no snapshot uses.
    pub(crate) fn sweep(&self) {
        sweep(&self.balancers);
        sweep(&self.forwards);
        sweep(&self.queues);
    }
}

fn sweep<K: Eq + Hash, V>(map: &WeakMap<K, V>) {
    map.borrow_mut().retain(|_, value| value.strong_count() > 0);
}
