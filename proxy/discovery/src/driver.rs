//! Driver on the control thread: one task per lookup, which keeps its streams up and publishes their answers.

mod outbound;

use std::{cell::RefCell, hash::Hash, rc::Rc, sync::Arc, time::Duration};

use proxy_metrics::Metrics;
use proxy_model::{EndpointSet, EndpointUpdate, ServerPolicy, limits};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    ControlPlane, Discovery, Service,
    cache::{Lookup, Lookups},
    endpoints::Endpoints,
    port_policy::{self, normalise},
    stream::{Event, Known, Live, OnRefusal, StreamDriver},
};

/// Answers lookups. Runs on the control thread, inside a `LocalSet`.
#[derive(Debug)]
pub struct Driver<C> {
    discovery: Discovery,
    control_plane: Rc<C>,
}

impl<C: ControlPlane> Driver<C> {
    pub(crate) fn new(discovery: Discovery, control_plane: C) -> Self {
        Self {
            discovery,
            control_plane: Rc::new(control_plane),
        }
    }

    /// Runs until it is dropped.
    pub async fn run(self) {
        let mut tasks = JoinSet::new();
        let inner = Arc::clone(&self.discovery.0);
        loop {
            tokio::select! {
                fresh = inner.outbound.next_fresh() => for lookup in fresh {
                    tasks.spawn_local(outbound::follow(self.discovery.clone(), Rc::clone(&self.control_plane), lookup));
                },
                fresh = inner.endpoints.next_fresh() => for lookup in fresh {
                    tasks.spawn_local(endpoints(self.discovery.clone(), Rc::clone(&self.control_plane), lookup));
                },
                fresh = inner.inbound.next_fresh() => for lookup in fresh {
                    tasks.spawn_local(inbound(self.discovery.clone(), Rc::clone(&self.control_plane), lookup));
                },
                Some(done) = tasks.join_next() => if let Err(error) = done {
                    tracing::error!(%error, "discovery task failed");
                },
            }
        }
    }
}

/// Waits until the lookup was unused for the idle time and its streams are up (or it was never answered).
async fn unused<K: Clone + Eq + Hash, V>(
    lookups: &Lookups<K, V>,
    lookup: &Lookup<K, V>,
    idle: Duration,
    live: &[&Live],
    answered: impl Fn() -> bool,
) {
    loop {
        tokio::select! {
            () = lookup.evicted.cancelled() => return,
            () = lookup.answer.closed() => {}
        }
        tokio::select! {
            () = lookup.evicted.cancelled() => return,
            () = tokio::time::sleep(idle) => {}
        }
        if answered() {
            for stream in live {
                // Never closed: the sender outlives this call.
                let _ = stream.subscribe().wait_for(|live| *live).await;
            }
        }
        if lookup.answer.receiver_count() == 0 && lookups.retire(lookup) {
            return;
        }
    }
}

type EndpointsLookup = Lookup<Arc<str>, Option<Arc<EndpointSet>>>;

async fn endpoints<C: ControlPlane>(discovery: Discovery, control_plane: Rc<C>, lookup: EndpointsLookup) {
    let config = &discovery.0.config;
    let remembered = lookup.answer.borrow().as_deref().map(Endpoints::restore);
    let set = RefCell::new(remembered.unwrap_or_default());
    let live = watch::Sender::new(false);
    let path = Arc::clone(&lookup.key);
    let on = |event| on_endpoints(&mut set.borrow_mut(), &lookup, &config.metrics, event);
    let age = RefCell::new(config.metrics.answer_age("endpoints", &path));
    let stream = StreamDriver {
        limits: config.destination_limits,
        health: &lookup.health,
        live: &live,
        target: path.to_string(),
        on_refusal: OnRefusal::End,
        age,
    };
    let streams = stream.run(
        connected(&*control_plane, Service::Destination),
        || control_plane.endpoints(&path),
        on,
    );
    let live: [&Live; 1] = [&live];
    let answered = || lookup.answer.borrow().is_some();
    until(
        unused(&discovery.0.endpoints, &lookup, config.outbound_idle, &live, answered),
        streams,
    )
    .await;
}

/// Applies an event to the set, and publishes the set if it changed.
fn on_endpoints(
    set: &mut Endpoints,
    lookup: &EndpointsLookup,
    metrics: &Metrics,
    event: Event<EndpointUpdate>,
) -> Known {
    let answer = match event {
        Event::Opened => {
            set.opened();
            None
        }
        Event::Message(update) => {
            let applied = set.apply(update);
            for _ in 0..set.take_refused() {
                metrics.limit_refused(limits::ENDPOINTS_PER_SERVICE);
            }
            applied
        }
        Event::Invalid(_) => None,
        // Deleted, or not known yet: stale endpoints are better than none.
        Event::Unknown if set.is_known() => None,
        Event::Unknown | Event::Refused => Some(set.unknown()),
    };
    if let Some(answer) = answer {
        let changed = lookup.answer.send_if_modified(|last| {
            let changed = last.as_ref() != Some(&answer);
            *last = Some(answer);
            changed
        });
        if changed {
            lookup.health.changed();
        }
    }
    if set.is_known() { Known::Yes } else { Known::No }
}

type InboundLookup = Lookup<u16, Option<Arc<ServerPolicy>>>;

async fn inbound<C: ControlPlane>(discovery: Discovery, control_plane: Rc<C>, lookup: InboundLookup) {
    let config = &discovery.0.config;
    let known = if lookup.health.is_known() {
        Known::Yes
    } else {
        Known::No
    };
    let live = watch::Sender::new(false);
    let known = RefCell::new(known);
    let port = lookup.key;
    let on = |event| {
        let answer = match event {
            Event::Message(policy) => Some(normalise(policy)),
            Event::Invalid(reason) => Some(port_policy::invalid(&reason)),
            // The absence of an answer changes nothing: what is known stays, and what is not known allows nothing.
            Event::Opened | Event::Unknown | Event::Refused => None,
        };
        if let Some(answer) = answer {
            *known.borrow_mut() = Known::Yes;
            let changed = lookup.answer.send_if_modified(|last| {
                let changed = last.as_deref() != Some(&answer);
                if changed {
                    *last = Some(Arc::new(answer));
                }
                changed
            });
            if changed || !lookup.health.is_known() {
                lookup.health.changed();
            }
        }
        *known.borrow()
    };
    let target = format!("port {port}");
    let age = RefCell::new(config.metrics.answer_age("inbound", &port.to_string()));
    let stream = StreamDriver {
        limits: config.policy_limits,
        health: &lookup.health,
        live: &live,
        target,
        on_refusal: OnRefusal::AskAgain,
        age,
    };
    let streams = stream.run(
        connected(&*control_plane, Service::Policy),
        || control_plane.watch_inbound(port),
        on,
    );
    let live: [&Live; 1] = [&live];
    let answered = || *known.borrow() == Known::Yes;
    until(
        unused(&discovery.0.inbound, &lookup, config.inbound_idle, &live, answered),
        streams,
    )
    .await;
}

/// Returns a function that waits for a connection to a service.
fn connected<C: ControlPlane>(control_plane: &C, service: Service) -> impl AsyncFn() {
    async move || control_plane.connected(service).await
}

/// Polls `work` until `end`. The answer of finished work stays in place.
async fn until(end: impl Future<Output = ()>, work: impl Future) {
    let work = async {
        work.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = end => {}
        () = work => {}
    }
}

#[cfg(test)]
mod tests;
