//! Which backend takes a request, which of its endpoints, and how long a request waits when none is ready.

use std::{
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, future};
use http::Response;
use proxy_core::{balance, distribute};
use proxy_model::limits;
use proxy_transport::timers;

use crate::{
    Error,
    endpoint::{Endpoint, InFlight},
    snapshot::{Backend, Dispatch, Distribution},
    worker::Shared,
};

/// What took a request.
pub(crate) struct Picked {
    /// Index of the backend.
    pub(crate) backend: usize,
    pub(crate) flight: InFlight,
}

impl Distribution {
    /// An endpoint for one request; `tried` ones only if there is no other. Waits until `deadline` if none is ready.
    pub(crate) async fn pick(
        &self,
        shared: &Rc<Shared>,
        tried: &[SocketAddr],
        (now, deadline): (Instant, Instant),
    ) -> Result<Picked, Error> {
        if let Some(picked) = self.try_pick(shared, tried, now)? {
            return Ok(picked);
        }
        if self.shut.get() {
            return Err(Error::LoadShed(self.name.clone()));
        }
        if self.waiting.get() >= limits::WAITING_REQUESTS.value {
            shared.metrics.limit_refused(limits::WAITING_REQUESTS);
            return Err(Error::LoadShed(self.name.clone()));
        }
        let _waiting = Waiting::new(self);
        loop {
            let wait = self.wait(deadline);
            if let Some(picked) = self.try_pick(shared, tried, Instant::now())? {
                return Ok(picked);
            }
            if Instant::now() >= deadline {
                self.shut.set(true);
                return Err(Error::FailFast(self.name.clone()));
            }
            wait.await;
        }
    }

    fn try_pick(&self, shared: &Rc<Shared>, tried: &[SocketAddr], now: Instant) -> Result<Option<Picked>, Error> {
        let ready = |i: usize| self.backends[i].is_ready(now);
        let backend = match &self.weights {
            None => distribute::first(self.backends.len(), ready),
            Some(weights) => {
                let rng = &mut *shared.rng.borrow_mut();
                distribute::weighted(self.backends.len(), |i| weights[i], rng, ready)
            }
        };
        let Some(backend) = backend else { return Ok(None) };
        let endpoint = match &self.backends[backend].dispatch {
            Dispatch::Invalid(name) => return Err(Error::InvalidBackend(name.clone())),
            Dispatch::Forward(endpoint) => Some(endpoint.clone()),
            Dispatch::Balance(balancer) => balancer.pick(now, tried),
        };
        self.shut.set(false);
        Ok(endpoint.map(|endpoint| Picked {
            backend,
            flight: endpoint.begin(now),
        }))
    }

    /// Until something may have changed, or `deadline`.
    fn wait(&self, deadline: Instant) -> future::LocalBoxFuture<'_, ()> {
        // Picking looks at no more backends than it needs; what another one has not seen yet would end each wait at once.
        self.backends.iter().for_each(Backend::update);
        let soonest = self.backends.iter().filter_map(Backend::ready_at).min();
        let until = soonest.map_or(deadline, |soonest| soonest.min(deadline));
        // A moment later, so that what becomes ready at that time is ready then.
        let sleep = timers::sleep_until(until + Duration::from_millis(1)).boxed_local();
        let changes = self.backends.iter().filter_map(Backend::changed).flatten();
        future::select_all(changes.chain([sleep])).map(drop).boxed_local()
    }
}

impl Backend {
    /// A single address is tried whenever it is asked for: who dials it wants to know at once.
    pub(crate) fn is_forward(&self) -> bool {
        matches!(self.dispatch, Dispatch::Forward(_))
    }

    /// A response that says "too much" makes its endpoint cost more, where the policy wants so.
    pub(crate) fn penalize<B>(&self, endpoint: &Endpoint, response: &Response<B>) {
        let Dispatch::Balance(balancer) = &self.dispatch else {
            return;
        };
        if let Some(penalty) = balance::penalty(&balancer.load(), response.status(), response.headers()) {
            endpoint.load.penalize(penalty, Instant::now());
        }
    }

    fn update(&self) {
        if let Dispatch::Balance(balancer) = &self.dispatch {
            balancer.update();
        }
    }

    fn is_ready(&self, now: Instant) -> bool {
        match &self.dispatch {
            Dispatch::Forward(endpoint) => endpoint.is_admitted(now),
            Dispatch::Invalid(_) => true,
            Dispatch::Balance(balancer) => balancer.is_ready(now),
        }
    }

    fn ready_at(&self) -> Option<Instant> {
        match &self.dispatch {
            Dispatch::Forward(endpoint) => endpoint.ready_at(),
            Dispatch::Invalid(_) => None,
            Dispatch::Balance(balancer) => balancer.ready_at(),
        }
    }

    fn changed(&self) -> Option<[future::LocalBoxFuture<'_, ()>; 2]> {
        let Dispatch::Balance(balancer) = &self.dispatch else {
            return None;
        };
        let notified = balancer.changed().notified();
        let mut receiver = balancer.receiver();
        let answered = async move {
            if receiver.changed().await.is_err() {
                future::pending::<()>().await;
            }
        };
        Some([notified.boxed_local(), answered.boxed_local()])
    }
}

/// One request that waits.
struct Waiting<'a>(&'a Distribution);

impl<'a> Waiting<'a> {
    fn new(distribution: &'a Distribution) -> Self {
        distribution.waiting.set(distribution.waiting.get() + 1);
        Self(distribution)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}
