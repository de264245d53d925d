//! One worker: its targets, each under its address.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::{Rc, Weak},
    time::{Duration, Instant},
};

use proxy_model::{OrigDstAddr, limits};
use proxy_transport::timers;
use rustc_hash::FxHashMap;

use crate::{Deps, context::Context, discover::Target, endpoints::Endpoints};

/// The outbound side of one worker.
#[derive(Debug)]
pub struct Worker {
    pub(crate) context: Rc<Context>,
    endpoints: Rc<Endpoints>,
    targets: RefCell<FxHashMap<SocketAddr, Rc<Target>>>,
    sweeping: Cell<bool>,
}

impl Worker {
    /// Creates a worker. Its connections must be served on one thread, inside a `LocalSet`.
    pub fn new(deps: Deps) -> Rc<Self> {
        let context = Rc::new(Context::new(deps));
        Rc::new(Self {
            endpoints: Endpoints::new(context.clone()),
            context,
            targets: RefCell::default(),
            sweeping: Cell::new(false),
        })
    }

    /// Returns the target for `addr`; it is kept for a while after its last use. `None` when too many are in use.
    pub(crate) fn target(self: &Rc<Self>, addr: OrigDstAddr) -> Option<Rc<Target>> {
        if let Some(target) = self.targets.borrow().get(&addr.0) {
            target.touch();
            return Some(target.clone());
        }
        if self.targets.borrow().len() >= limits::DISCOVERY_TARGETS.value && !self.evict_oldest() {
            self.context.metrics.limit_refused(limits::DISCOVERY_TARGETS);
            return None;
        }
        let target = Target::new(&self.endpoints, addr);
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
        let idle = self.context.config.discovery_idle;
        let mut targets = self.targets.borrow_mut();
        targets.retain(|_, target| {
            if Rc::strong_count(target) > 1 {
                target.touch();
            }
            now.duration_since(target.used()) < idle
        });
        let empty = targets.is_empty();
        drop(targets);
        self.endpoints.sweep();
        self.sweeping.set(!empty);
        !empty
    }
}

/// Removes idle targets periodically. Ends with the last target, or with the worker.
async fn sweep(worker: Weak<Worker>) {
    loop {
        let Some(idle) = worker.upgrade().map(|w| w.context.config.discovery_idle) else {
            return;
        };
        timers::sleep((idle / 4).clamp(Duration::from_millis(10), Duration::from_secs(10))).await;
        if !worker.upgrade().is_some_and(|worker| worker.sweep()) {
            return;
        }
    }
}
