//! Single HTTP/2 connection to an endpoint.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::Future,
    rc::Rc,
};

use futures_util::{
    FutureExt as _,
    future::{LocalBoxFuture, Shared},
};

use crate::client::Http2;

/// Connection of a slot, with the generation that tells it from the slot's earlier and later ones.
#[derive(Clone, Debug)]
pub struct SlotConnection {
    /// The connection.
    pub connection: Http2,
    /// Generation of the connection within its slot.
    pub generation: u64,
}

type Connecting<E> = Shared<LocalBoxFuture<'static, Result<SlotConnection, E>>>;

/// Slot for one HTTP/2 connection. Requests that arrive while it is being established wait for it.
pub struct Http2Slot<E: 'static> {
    state: RefCell<State<E>>,
    generation: Cell<u64>,
}

enum State<E: 'static> {
    Idle,
    Connecting(Connecting<E>),
    Ready(Http2),
}

impl<E: 'static> Default for Http2Slot<E> {
    fn default() -> Self {
        Self {
            state: RefCell::new(State::Idle),
            generation: Cell::new(0),
        }
    }
}

impl<E: Clone + 'static> Http2Slot<E> {
    /// Returns the connection of the slot that `slot` finds in `owner`; `connect` establishes it if there is none. All
    /// waiting callers get the same result, and the attempt goes on even if none of them waits any more.
    pub async fn get<O, F>(
        owner: &Rc<O>,
        slot: impl Fn(&O) -> &Self + 'static,
        connect: impl FnOnce(Rc<O>) -> F,
    ) -> Result<SlotConnection, E>
    where
        O: 'static,
        F: Future<Output = Result<Http2, E>> + 'static,
    {
        if let Some(ready) = slot(owner).ready() {
            return Ok(ready);
        }
        Self::connecting(owner, slot, connect).await
    }

    fn ready(&self) -> Option<SlotConnection> {
        match &*self.state.borrow() {
            State::Ready(connection) if !connection.is_closed() => Some(SlotConnection {
                connection: connection.clone(),
                generation: self.generation.get(),
            }),
            _ => None,
        }
    }

    /// Returns the current attempt, or starts one.
    fn connecting<O, F>(
        owner: &Rc<O>,
        slot: impl Fn(&O) -> &Self + 'static,
        connect: impl FnOnce(Rc<O>) -> F,
    ) -> Connecting<E>
    where
        O: 'static,
        F: Future<Output = Result<Http2, E>> + 'static,
    {
        let this = slot(owner);
        if let State::Connecting(connecting) = &*this.state.borrow() {
            return connecting.clone();
        }
        let generation = this.generation.get() + 1;
        this.generation.set(generation);
        let attempt = connect(owner.clone());
        let weak = Rc::downgrade(owner);
        let connecting = async move {
            let result = attempt.await;
            if let Some(owner) = weak.upgrade() {
                slot(&owner).settle(generation, result.as_ref().ok());
            }
            result.map(|connection| SlotConnection { connection, generation })
        };
        let connecting = connecting.boxed_local().shared();
        *this.state.borrow_mut() = State::Connecting(connecting.clone());
        tokio::task::spawn_local(connecting.clone().map(drop));
        connecting
    }

    /// Records the result of the attempt of `generation`, unless a later one has begun.
    fn settle(&self, generation: u64, connection: Option<&Http2>) {
        if self.generation.get() == generation {
            *self.state.borrow_mut() = connection.map_or(State::Idle, |connection| State::Ready(connection.clone()));
        }
    }

    /// Drops the connection of `generation`, which accepts no more requests. Requests in progress continue.
    pub fn forget(&self, generation: u64) {
        if self.generation.get() == generation {
            *self.state.borrow_mut() = State::Idle;
        }
    }
}

impl<E: 'static> fmt::Debug for Http2Slot<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Http2Slot({})", self.generation.get())
    }
}
