//! Room for copies of mirrored requests: how many of them a worker sends at a time, and the bytes that they hold.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    rc::Rc,
};

use proxy_metrics::Recorder;
use proxy_model::limits;
use tokio::task::JoinSet;

/// Copies of one worker that have not ended; each has a time limit.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    tasks: RefCell<JoinSet<()>>,
    bytes: Cell<usize>,
}

/// Bytes that a copy holds.
pub(crate) struct Held {
    copies: Rc<Copies>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.copies.bytes.set(self.copies.bytes.get() - self.bytes);
    }
}

impl Copies {
    /// Makes room for a copy; none where a limit is reached, which is counted.
    pub(crate) fn hold(self: &Rc<Self>, metrics: &Recorder, bytes: usize) -> Option<Held> {
        let mut tasks = self.tasks.borrow_mut();
        while tasks.try_join_next().is_some() {}
        if tasks.len() >= limits::MIRRORED_REQUESTS.value {
            metrics.limit_refused(limits::MIRRORED_REQUESTS);
            return None;
        }
        if self.bytes.get() + bytes > limits::MIRRORED_BYTES.value {
            metrics.limit_refused(limits::MIRRORED_BYTES);
            return None;
        }
        self.bytes.set(self.bytes.get() + bytes);
        let copies = self.clone();
        Some(Held { copies, bytes })
    }

    /// Sends a copy, whose room it gives back at its end.
    pub(crate) fn spawn(&self, held: Held, copy: impl Future<Output = ()> + 'static) {
        self.tasks.borrow_mut().spawn_local(async move {
            copy.await;
            drop(held);
        });
    }
}
