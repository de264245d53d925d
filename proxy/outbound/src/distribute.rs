//! Picks a backend and an endpoint for a request, and bounds the wait when none is ready.

use std::{
    net::SocketAddr,
    time::{Duration, Instant, SystemTime},
};

use futures_util::{FutureExt as _, future};
use http::Response;
use proxy_core::{balance, distribute};
use proxy_model::{limits, outbound::Load};
use proxy_transport::timers;

use crate::{
    Error,
    balance::UnreadyCounts,
    context::Context,
    endpoint::{Endpoint, InFlight},
    endpoints::Queue,
    snapshot::{Backend, Dispatch, Distribution},
};

/// Endpoint picked for a request.
pub(crate) struct Picked {
    /// Index of the backend.
    pub(crate) backend: usize,
    pub(crate) flight: InFlight,
}

impl Distribution {
    /// Picks an endpoint for one request; an excluded one only if there is no other. Waits until the deadline if none
    /// is ready.
    pub(crate) async fn pick(
        &self,
        context: &Context,
        excluded: &[SocketAddr],
        now: Instant,
        deadline: Instant,
    ) -> Result<Picked, Error> {
        if let Some(picked) = self.try_pick(context, excluded, now)? {
            return Ok(picked);
        }
        if self.queue.failfast.get() {
            return Err(Error::LoadShed(self.name.clone()));
        }
        if self.queue.waiting.get() >= limits::WAITING_REQUESTS.value {
            context.metrics.limit_refused(limits::WAITING_REQUESTS);
            return Err(Error::LoadShed(self.name.clone()));
        }
        let _waiting = Waiting::new(&self.queue);
        loop {
            let wait = self.wait(deadline);
            if let Some(picked) = self.try_pick(context, excluded, Instant::now())? {
                return Ok(picked);
            }
            if Instant::now() >= deadline {
                return Err(self.fail_fast());
            }
            wait.await;
        }
    }

    fn try_pick(&self, context: &Context, excluded: &[SocketAddr], now: Instant) -> Result<Option<Picked>, Error> {
        let ready = |i: usize| self.backends[i].is_ready(now);
        let backend = match &self.weights {
            None => distribute::first(self.backends.len(), ready),
            Some(weights) => {
                let rng = &mut *context.rng.borrow_mut();
                distribute::weighted(self.backends.len(), |i| weights[i], rng, ready)
            }
        };
        let Some(backend) = backend else { return Ok(None) };
        let endpoint = match &self.backends[backend].dispatch {
            Dispatch::Invalid(name) => return Err(Error::InvalidBackend(name.clone())),
            Dispatch::Forward(endpoint) => Some(endpoint.clone()),
            Dispatch::Balance(balancer) => balancer.pick(now, excluded),
        };
        self.queue.failfast.set(false);
        let flight = endpoint.and_then(|endpoint| endpoint.begin(now));
        Ok(flight.map(|flight| Picked { backend, flight }))
    }

    /// Returns true if a request could be sent now.
    pub(crate) fn is_ready(&self, now: Instant) -> bool {
        self.backends.iter().any(|backend| backend.is_ready(now))
    }

    /// Error after the wait; its text says why no endpoint was ready.
    #[cold]
    fn fail_fast(&self) -> Error {
        let now = Instant::now();
        let mut counts = UnreadyCounts::default();
        for backend in &self.backends {
            if let Dispatch::Balance(balancer) = &backend.dispatch {
                let of = balancer.unready(now);
                counts.all += of.all;
                counts.ejected += of.ejected;
                counts.unreachable += of.unreachable;
            }
        }
        let UnreadyCounts {
            all,
            ejected,
            unreachable,
        } = counts;
        if !self.queue.failfast.replace(true) {
            tracing::info!(
                service = &*self.name,
                endpoints = all,
                ejected,
                unreachable,
                "Service in fail-fast"
            );
        }
        Error::FailFast(
            format!(
                "{} ({all} endpoints, {ejected} ejected, {unreachable} unreachable)",
                self.name
            )
            .into(),
        )
    }

    /// Waits until an endpoint may have become ready, or the deadline.
    fn wait(&self, deadline: Instant) -> future::LocalBoxFuture<'_, ()> {
        // Picking updates only the backends it needs; an update pending at another one would end each wait at once.
        self.backends.iter().for_each(Backend::update);
        let soonest = self.backends.iter().filter_map(Backend::ready_at).min();
        let until = soonest.map_or(deadline, |soonest| soonest.min(deadline));
        // One millisecond later, so that an endpoint which becomes ready at that time is ready by then.
        let sleep = timers::sleep_until(until + Duration::from_millis(1)).boxed_local();
        let changes = self.backends.iter().filter_map(Backend::changed).flatten();
        future::select_all(changes.chain([sleep])).map(drop).boxed_local()
    }
}

impl Backend {
    /// Returns true for a single address. It is always tried: its client wants an answer at once.
    pub(crate) fn is_forward(&self) -> bool {
        matches!(self.dispatch, Dispatch::Forward(_))
    }

    /// Raises the cost of an endpoint that reports overload, if the policy has penalties.
    pub(crate) fn penalize<B>(&self, endpoint: &Endpoint, response: &Response<B>) {
        let Dispatch::Balance(balancer) = &self.dispatch else {
            return;
        };
        let load = balancer.load();
        if matches!(load, Load::PeakEwma(_)) {
            return;
        }
        let (status, headers) = (response.status(), response.headers());
        if let Some(penalty) = balance::penalty(&load, status, headers, SystemTime::now()) {
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
        let notified = balancer.changed();
        let mut receiver = balancer.receiver();
        let answered = async move {
            if receiver.changed().await.is_err() {
                future::pending::<()>().await;
            }
        };
        Some([notified.boxed_local(), answered.boxed_local()])
    }
}

/// Counts one waiting request until dropped.
struct Waiting<'a>(&'a Queue);

impl<'a> Waiting<'a> {
    fn new(queue: &'a Queue) -> Self {
        queue.waiting.set(queue.waiting.get() + 1);
        Self(queue)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}
