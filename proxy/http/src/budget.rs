//! Budget of the bytes that peers make a worker hold: heads of requests in progress, and bodies that wait for a peer to
//! read. When it is spent, the connection that holds most is closed.
//!
//! Counting costs a few additions per request; connections are compared only when the budget is spent.

use std::{
    cell::{Cell, OnceCell, RefCell},
    net::SocketAddr,
    rc::{Rc, Weak},
    task::Waker,
};

use bytes::{Buf, Bytes};
use proxy_metrics::Recorder;
use proxy_model::limits;

use crate::refusals::refused;

thread_local! {
    static BUDGET: Budget = const {
        Budget {
            limit: Cell::new(limits::BUFFERED_BYTES.value),
            held: Cell::new(0),
            buffers: Cell::new(0),
            holders: RefCell::new(Vec::new()),
            metrics: RefCell::new(None),
        }
    };
}

/// Sets the budget of this thread's connections, and the counter of those that it closes.
pub fn set(bytes: usize, metrics: Recorder) {
    BUDGET.with(|budget| {
        budget.limit.set(bytes);
        budget.metrics.replace(Some(metrics));
    });
}

/// Returns true if so much is held that connections should buffer little.
pub(crate) fn is_tight() -> bool {
    BUDGET.with(|budget| budget.held.get() > budget.limit.get() / 3)
}

/// Large read buffer of a connection, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct LargeBuffer(usize);

impl LargeBuffer {
    /// Returns true if the budget's third for such buffers has room for one of `bytes`.
    pub(crate) fn has_room(bytes: usize) -> bool {
        BUDGET.with(|budget| budget.buffers.get() + bytes <= budget.limit.get() / 3)
    }

    pub(crate) fn new(bytes: usize) -> Self {
        BUDGET.with(|budget| budget.buffers.set(budget.buffers.get() + bytes));
        Self(bytes)
    }
}

impl Drop for LargeBuffer {
    fn drop(&mut self) {
        // An upgraded connection may end on another thread, or with its own.
        let _ = BUDGET.try_with(|budget| budget.buffers.set(budget.buffers.get().saturating_sub(self.0)));
    }
}

struct Budget {
    limit: Cell<usize>,
    /// Bytes held by connections that are not being closed for it.
    held: Cell<usize>,
    /// Bytes of large read buffers, which HTTP/1 connections keep while idle.
    buffers: Cell<usize>,
    holders: RefCell<Vec<Weak<Holder>>>,
    metrics: RefCell<Option<Recorder>>,
}

impl Budget {
    /// Closes the connections that hold most until the rest is within the limit.
    #[cold]
    fn shed(&self) {
        while self.held.get() > self.limit.get() {
            let holders = self.holders.borrow();
            let open = holders.iter().filter_map(Weak::upgrade).filter(|it| !it.is_shed.get());
            let Some(largest) = open.max_by_key(|holder| holder.held.get()) else {
                return;
            };
            drop(holders);
            largest.is_shed.set(true);
            self.held.set(self.held.get() - largest.held.get());
            largest.task.wake_by_ref();
            if let Some(metrics) = &*self.metrics.borrow() {
                refused(metrics, limits::BUFFERED_BYTES, largest.peer);
            }
        }
    }
}

/// Bytes held because of one connection.
pub(crate) struct Holder {
    held: Cell<usize>,
    /// Number and bytes of what has been held and let go.
    released: Cell<(u64, u64)>,
    is_shed: Cell<bool>,
    /// Place in the table of the budget.
    place: Cell<usize>,
    /// Wakes the connection to be closed.
    task: Waker,
    /// Client, if the connection is one's.
    peer: Option<SocketAddr>,
    /// Bodies that are not read until the connection holds less.
    parked: RefCell<Vec<Waker>>,
}

impl Holder {
    /// Creates the account of a connection, which `task` wakes.
    pub(crate) fn new(task: Waker, peer: Option<SocketAddr>) -> Rc<Self> {
        BUDGET.with(|budget| {
            let mut holders = budget.holders.borrow_mut();
            let holder = Rc::new(Self {
                held: Cell::new(0),
                released: Cell::default(),
                is_shed: Cell::new(false),
                place: Cell::new(holders.len()),
                task,
                peer,
                parked: RefCell::default(),
            });
            holders.push(Rc::downgrade(&holder));
            holder
        })
    }

    /// Returns true if the connection must close.
    pub(crate) fn is_shed(&self) -> bool {
        self.is_shed.get()
    }

    /// Returns the number of heads and pieces of bodies that are held no more, and their bytes.
    pub(crate) fn released(&self) -> (u64, u64) {
        self.released.get()
    }

    pub(crate) fn add(&self, bytes: usize) {
        self.held.set(self.held.get() + bytes);
        if self.is_shed.get() {
            return;
        }
        BUDGET.with(|budget| {
            let held = budget.held.get() + bytes;
            budget.held.set(held);
            if held > budget.limit.get() {
                budget.shed();
            }
        });
    }

    pub(crate) fn subtract(&self, bytes: usize) {
        let held = self.held.get() - bytes;
        self.held.set(held);
        if !self.is_shed.get() {
            BUDGET.with(|budget| budget.held.set(budget.held.get() - bytes));
        }
        // Half, so that bodies do not take turns for every frame.
        if held <= limits::HTTP2_WAITING_BYTES.value / 2 && !self.parked.borrow().is_empty() {
            self.parked.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Replaces what the connection holds.
    pub(crate) fn set(&self, bytes: usize) {
        self.subtract(self.held.get());
        self.add(bytes);
    }

    /// Returns true if a further body may be read; else wakes `waker` once it may.
    pub(crate) fn has_room(&self, waker: &Waker) -> bool {
        if self.held.get() < limits::HTTP2_WAITING_BYTES.value {
            return true;
        }
        let mut parked = self.parked.borrow_mut();
        if !parked.iter().any(|known| known.will_wake(waker)) {
            parked.push(waker.clone());
        }
        false
    }

    /// Bytes counted until the guard is dropped.
    pub(crate) fn hold(self: &Rc<Self>, bytes: usize) -> HeldBytes {
        self.add(bytes);
        HeldBytes {
            bytes,
            holder: self.clone(),
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        BUDGET.with(|budget| {
            if !self.is_shed.get() {
                budget.held.set(budget.held.get() - self.held.get());
            }
            let mut holders = budget.holders.borrow_mut();
            let place = self.place.get();
            holders.swap_remove(place);
            if let Some(moved) = holders.get(place).and_then(Weak::upgrade) {
                moved.place.set(place);
            }
        });
    }
}

/// Account of a connection that seldom holds anything, made when it first does.
pub(crate) struct Account {
    held: Cell<usize>,
    holder: OnceCell<Rc<Holder>>,
    peer: Option<SocketAddr>,
}

impl Account {
    pub(crate) fn new(peer: Option<SocketAddr>) -> Self {
        Self {
            held: Cell::new(0),
            holder: OnceCell::new(),
            peer,
        }
    }

    /// Replaces what the connection holds; returns true if the connection, which `task` wakes, must close.
    pub(crate) fn is_shed(&self, held: usize, task: impl FnOnce() -> Waker) -> bool {
        if self.held.replace(held) != held {
            self.holder.get_or_init(|| Holder::new(task(), self.peer)).set(held);
        }
        self.holder.get().is_some_and(|holder| holder.is_shed())
    }
}

/// Guard of counted bytes.
pub(crate) struct HeldBytes {
    bytes: usize,
    holder: Rc<Holder>,
}

impl HeldBytes {
    /// Ends the count; returns the account.
    pub(crate) fn release(self) -> Rc<Holder> {
        self.holder.clone()
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        let (pieces, bytes) = self.holder.released.get();
        self.holder.released.set((pieces + 1, bytes + self.bytes as u64));
        self.holder.subtract(self.bytes);
    }
}

/// Data of a body, counted until it has been written.
pub(crate) struct HeldData {
    data: Bytes,
    _held: Option<HeldBytes>,
}

impl HeldData {
    pub(crate) fn new(data: Bytes, holder: &Rc<Holder>) -> Self {
        let held = (!data.is_empty()).then(|| holder.hold(data.len()));
        Self { data, _held: held }
    }
}

impl Buf for HeldData {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.data.advance(count);
    }
}

#[cfg(test)]
mod tests {
    use proxy_metrics::Metrics;

    use super::*;

    #[test]
    fn the_largest_holder_is_closed_when_the_budget_is_spent() {
        let metrics = Metrics::default();
        set(1000, metrics.recorder());
        let [small, large, other] = [(); 3].map(|()| Holder::new(Waker::noop().clone(), None));
        small.add(100);
        large.add(600);
        other.add(300);
        assert!(![&small, &large, &other].iter().any(|holder| holder.is_shed()));
        small.add(1);
        assert!(large.is_shed() && !small.is_shed() && !other.is_shed());
        // What it still holds is on its way out.
        other.add(500);
        assert!(!other.is_shed());
        drop(large);
        other.add(200);
        assert!(other.is_shed() && !small.is_shed());
        drop(other);
        small.subtract(101);
        drop(small);
        let counted = "mesh_limit_refused_total{limit=\"BUFFERED_BYTES\"} 2\n";
        assert!(metrics.render().contains(counted));
        BUDGET.with(|budget| {
            assert_eq!(budget.held.get(), 0);
            assert!(budget.holders.borrow().is_empty());
        });
    }

    #[test]
    fn bytes_are_held_until_their_guards_are_dropped() {
        let holder = Holder::new(Waker::noop().clone(), None);
        let held = holder.hold(limits::HTTP2_WAITING_BYTES.value - 3);
        assert!(holder.has_room(Waker::noop()));
        let data = HeldData::new(Bytes::from_static(b"abc"), &holder);
        assert!(!holder.has_room(Waker::noop()));
        drop(data);
        assert!(holder.has_room(Waker::noop()));
        drop(held);
        assert_eq!(holder.held.get(), 0);
    }
}
