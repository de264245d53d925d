//! Discovery of one target: compiled into a snapshot when it changes, read by every request.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use proxy_discovery::Outbound;
use proxy_metrics::TransportSlot;
use proxy_model::{OrigDstAddr, OutboundTarget};
use proxy_transport::timers;
use tokio::sync::watch;

use crate::{Error, endpoints::Endpoints, snapshot::Snapshot};

/// An original destination with its current snapshot.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) addr: OrigDstAddr,
    /// Metrics of client connections to it.
    pub(crate) accepted: Arc<TransportSlot>,
    endpoints: Rc<Endpoints>,
    receiver: RefCell<watch::Receiver<Option<Arc<Outbound>>>>,
    snapshot: RefCell<Option<Rc<Snapshot>>>,
    used: Cell<Instant>,
}

impl Target {
    pub(crate) fn new(endpoints: &Rc<Endpoints>, addr: OrigDstAddr) -> Rc<Self> {
        let context = &endpoints.context;
        let mut receiver = context.discovery.outbound(&OutboundTarget::Addr(addr.0));
        receiver.mark_changed();
        Rc::new(Self {
            addr,
            accepted: context.metrics.outbound_accept(addr.0),
            endpoints: endpoints.clone(),
            receiver: RefCell::new(receiver),
            snapshot: RefCell::default(),
            used: Cell::new(Instant::now()),
        })
    }

    /// Marks the target as used now.
    pub(crate) fn touch(&self) {
        self.used.set(Instant::now());
    }

    /// Time of the last use.
    pub(crate) fn used(&self) -> Instant {
        self.used.get()
    }

    /// Returns the newest snapshot; `None` before the first answer.
    pub(crate) fn current(&self) -> Option<Rc<Snapshot>> {
        let mut receiver = self.receiver.borrow_mut();
        if receiver.has_changed().unwrap_or(false)
            && let Some(outbound) = receiver.borrow_and_update().clone()
        {
            let same = self.snapshot.borrow().as_ref().is_some_and(|s| s.is_of(&outbound));
            if !same {
                let snapshot = Snapshot::compile(&self.endpoints, self.addr, &outbound);
                *self.snapshot.borrow_mut() = Some(Rc::new(snapshot));
            }
        }
        self.snapshot.borrow().clone()
    }

    /// Returns the newest snapshot. Waits for the first answer, up to the failfast time.
    pub(crate) async fn wait(&self) -> Result<Rc<Snapshot>, Error> {
        if let Some(snapshot) = self.current() {
            return Ok(snapshot);
        }
        let mut receiver = self.receiver.borrow().clone();
        let answer = receiver.wait_for(Option::is_some);
        let outcome = timers::timeout(self.endpoints.context.config.failfast, answer).await;
        let answered = matches!(outcome, Ok(Ok(_)));
        let failfast = || Error::FailFast(format!("discovery of {}", self.addr).into());
        self.current().filter(|_| answered).ok_or_else(failfast)
    }
}
