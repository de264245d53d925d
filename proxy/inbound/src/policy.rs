//! Current policy of a port: read for each request, without a lock unless it changed. A connection to a port whose
//! policy is not known is held for a while and then refused: the absence of a policy allows nothing.

use std::{cell::Cell, sync::Arc};

use proxy_discovery::PolicyWatch;
use proxy_model::{ServerPolicy, limits};
use proxy_transport::timers;

use crate::{Error, Worker};

/// Current policy of a port.
#[derive(Debug)]
pub(crate) struct CurrentPolicy {
    updates: PolicyWatch,
    current: Arc<ServerPolicy>,
}

impl CurrentPolicy {
    /// Returns the policy of a port, once it is known.
    pub(crate) async fn find(worker: &Worker, port: u16) -> Result<Self, Error> {
        let mut updates = worker.discovery.inbound(port);
        let known = updates.borrow_and_update().clone();
        let current = match known {
            Some(policy) => policy,
            None => Box::pin(wait(worker, port, &mut updates)).await?,
        };
        Ok(Self { updates, current })
    }

    /// Returns the current policy. Costs an atomic load unless it changed.
    pub(crate) fn current(&mut self) -> &Arc<ServerPolicy> {
        if self.updates.has_changed().unwrap_or(false) {
            // Always some: what is known stays known.
            if let Some(policy) = &*self.updates.borrow_and_update() {
                self.current = Arc::clone(policy);
            }
        }
        &self.current
    }

    /// Returns another watch on the same port, which has seen what this one has.
    pub(crate) fn subscribe(&self) -> PolicyWatch {
        self.updates.clone()
    }
}

async fn wait(worker: &Worker, port: u16, updates: &mut PolicyWatch) -> Result<Arc<ServerPolicy>, Error> {
    let unknown = Error::PolicyUnknown(port);
    let Some(_place) = Place::take(&worker.undecided) else {
        worker.metrics.limit_refused(limits::UNDECIDED_CONNECTIONS);
        return Err(unknown);
    };
    let answered = timers::timeout(limits::POLICY_WAIT.value, updates.wait_for(Option::is_some)).await;
    match answered {
        Ok(Ok(policy)) => policy.clone().ok_or(unknown),
        // Too long, or too many lookups.
        Ok(Err(_)) | Err(_) => Err(unknown),
    }
}

/// Place of a held connection among those of its worker.
struct Place<'a>(&'a Cell<usize>);

impl<'a> Place<'a> {
    fn take(held: &'a Cell<usize>) -> Option<Self> {
        let count = held.get();
        if count >= limits::UNDECIDED_CONNECTIONS.value {
            return None;
        }
        held.set(count + 1);
        Some(Self(held))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
