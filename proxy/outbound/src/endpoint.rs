//! State that one worker keeps for an endpoint: load, failures, connections, metrics. It survives every update that
//! does not change the endpoint itself.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::{Rc, Weak},
    sync::Arc,
    time::{Duration, Instant},
};

use proxy_core::{
    backoff,
    balance::PeakEwma,
    breaker::{Outcome, Report, Ticket},
};
use proxy_metrics::{HttpSlot, NoTls, OutboundLabels, Tls};
use proxy_model::{Hint, Labels, TlsIdentity, outbound, route::Backoff};
use proxy_transport::timers;
use tokio::sync::Notify;

use crate::{
    breakers::EndpointBreaker,
    connect::{Connector, Variant},
    context::Context,
};

/// An endpoint of a balancer, or a single one.
#[derive(Debug)]
pub(crate) struct Endpoint {
    context: Rc<Context>,
    pub(crate) model: Arc<proxy_model::Endpoint>,
    set_labels: Labels,
    /// Labels for tap: those of the endpoint over those of its set, and its identity.
    pub(crate) tap_labels: Labels,
    pub(crate) load: PeakEwma,
    /// Shared with the other workers; none without failure accrual.
    breaker: RefCell<Option<Arc<EndpointBreaker>>>,
    failing: Cell<Option<ConnectFailure>>,
    /// A task connects again and again, because the last request could not.
    reconnecting: Cell<bool>,
    is_balanced: bool,
    changes: Rc<Changes>,
    backoff: Backoff,
    pub(crate) connector: Rc<Connector>,
    pub(crate) requests: Rc<HttpSlot>,
}

/// Changes of the readiness of a balancer's endpoints.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    notify: Notify,
    count: Cell<u32>,
}

impl Changes {
    fn happened(&self) {
        self.count.set(self.count.get().wrapping_add(1));
        self.notify.notify_waiters();
    }

    /// Number of changes so far.
    pub(crate) fn count(&self) -> u32 {
        self.count.get()
    }

    /// Notified of each change.
    pub(crate) fn notify(&self) -> &Notify {
        &self.notify
    }
}

/// Recent failure to reach the endpoint.
#[derive(Copy, Clone, Debug)]
struct ConnectFailure {
    until: Instant,
    attempts: u32,
    /// A request is trying the endpoint now, or a task tries it from time to time.
    probing: bool,
}

/// Parameters of a new endpoint.
pub(crate) struct EndpointParams<'a> {
    pub(crate) context: &'a Rc<Context>,
    pub(crate) model: &'a Arc<proxy_model::Endpoint>,
    pub(crate) set_labels: &'a Labels,
    /// `name[:port]` for the label.
    pub(crate) authority: Option<&'a str>,
    pub(crate) ewma: outbound::PeakEwma,
    pub(crate) breaker: Option<Arc<EndpointBreaker>>,
    pub(crate) changes: &'a Rc<Changes>,
}

impl Endpoint {
    pub(crate) fn new(params: &EndpointParams<'_>) -> Rc<Self> {
        let EndpointParams {
            context,
            model,
            authority,
            ..
        } = params;
        let now = Instant::now();
        let is_local = context.config.local_ips.contains(&model.addr.ip());
        let labels = merged(params.set_labels, &model.labels);
        let tls = match (&model.identity, is_local) {
            (_, true) => Tls::None(NoTls::Loopback),
            (Some(identity), false) => Tls::Server(&identity.server_id),
            (None, false) => Tls::None(NoTls::NotProvidedByServiceDiscovery),
        };
        let metric = OutboundLabels {
            authority: *authority,
            target: model.addr,
            tls,
            endpoint: &labels,
        };
        let transport = context.metrics.outbound_transport(&metric);
        Rc::new(Self {
            requests: context.metrics.outbound_http(&metric),
            tap_labels: tap_labels(&labels, &tls),
            set_labels: params.set_labels.clone(),
            load: PeakEwma::new(params.ewma, now),
            breaker: RefCell::new(params.breaker.clone()),
            failing: Cell::new(None),
            reconnecting: Cell::new(false),
            is_balanced: authority.is_some(),
            changes: params.changes.clone(),
            backoff: context.config.connect_backoff,
            connector: Connector::new(context, model, is_local, transport),
            model: (*model).clone(),
            context: (*context).clone(),
        })
    }

    /// Returns true if discovery still describes this endpoint.
    pub(crate) fn is_same(&self, model: &Arc<proxy_model::Endpoint>, set_labels: &Labels) -> bool {
        let same = Arc::ptr_eq(&self.model, model) || self.model == *model;
        same && (Arc::ptr_eq(&self.set_labels, set_labels) || self.set_labels == *set_labels)
    }

    /// Expected server identity; `None` means no TLS.
    pub(crate) fn identity(&self) -> Option<&TlsIdentity> {
        self.connector.identity()
    }

    /// Returns true if HTTP/1 may be carried in HTTP/2 to it.
    pub(crate) fn supports_orig_proto(&self) -> bool {
        self.model.hint == Hint::Http2 && !self.connector.is_local
    }

    /// Returns true if the endpoint can take a request now.
    pub(crate) fn is_ready(&self, now: Instant) -> bool {
        let reachable = self.failing.get().is_none_or(|f| !f.probing && now >= f.until);
        reachable && self.is_admitted(now)
    }

    /// Returns true if its breaker admits a request, reachable or not.
    pub(crate) fn is_admitted(&self, now: Instant) -> bool {
        self.breaker.borrow().as_ref().is_none_or(|b| b.is_ready(now))
    }

    /// Time at which it may become ready without any event.
    pub(crate) fn ready_at(&self) -> Option<Instant> {
        let failing = self.failing.get().filter(|f| !f.probing).map(|f| f.until);
        let open = self.breaker.borrow().as_ref().and_then(|breaker| breaker.ready_at());
        failing.max(open)
    }

    /// Returns the state that keeps it from requests, if any, for people.
    pub(crate) fn unready_as(&self, now: Instant) -> Option<Unready> {
        if !self.is_admitted(now) {
            return Some(Unready::Ejected);
        }
        (!self.is_ready(now)).then_some(Unready::Unreachable)
    }

    /// Starts one request or connection; `None` if another worker has just taken the only one that its breaker admits.
    pub(crate) fn begin(self: &Rc<Self>, now: Instant) -> Option<InFlight> {
        let breaker = self.breaker.borrow().clone();
        let ticket = match breaker {
            None => None,
            Some(breaker) => {
                let ticket = breaker.admit(now)?;
                Some((breaker, ticket))
            }
        };
        let probing = self.failing.get().map(|failing| {
            self.failing.set(Some(ConnectFailure {
                probing: true,
                ..failing
            }));
        });
        self.load.begin();
        Some(InFlight {
            endpoint: self.clone(),
            ticket,
            retry_after: None,
            awaited: None,
            probing: probing.is_some(),
            ended: false,
        })
    }

    /// Records a failure to connect, or an answer that the request never arrived: other endpoints are preferred for a
    /// while, until a request (or with `in_background` a task) finds it reachable. While a probe is in progress, other
    /// failures are ignored.
    fn unreachable(&self, is_probe: bool, in_background: bool) {
        let attempts = match self.failing.get() {
            None => 0,
            Some(failing) if is_probe => failing.attempts,
            Some(_) => return,
        };
        let wait = backoff::wait(&self.backoff, attempts, &mut self.context.rng.borrow_mut());
        let until = Instant::now() + wait;
        self.failing.set(Some(ConnectFailure {
            until,
            attempts: attempts.saturating_add(1),
            probing: in_background,
        }));
        self.changes.happened();
    }

    /// Records a failure to connect. Of several endpoints, a task finds out when this one is back: a request would wait
    /// for as long as a connect may take. A single address is always tried.
    fn unconnected(self: &Rc<Self>, is_probe: bool, variant: Option<Variant>) {
        self.unreachable(is_probe, self.is_balanced);
        if self.is_balanced && !self.reconnecting.replace(true) {
            tokio::task::spawn_local(reconnect(Rc::downgrade(self), variant));
        }
    }

    fn reachable(&self) {
        if self.failing.take().is_some() {
            self.changes.happened();
        }
    }

    /// Replaces the breaker, whose policy has changed. Requests in flight count for the old one.
    pub(crate) fn set_breaker(&self, breaker: Option<Arc<EndpointBreaker>>) {
        *self.breaker.borrow_mut() = breaker;
        self.changes.happened();
    }
}

/// Connects until it succeeds or the endpoint is gone, so that no request has to find out.
async fn reconnect(endpoint: Weak<Endpoint>, variant: Option<Variant>) {
    loop {
        let Some(endpoint_now) = endpoint.upgrade() else { return };
        let Some(failing) = endpoint_now.failing.get() else {
            endpoint_now.reconnecting.set(false);
            return;
        };
        let connector = endpoint_now.connector.clone();
        drop(endpoint_now);
        timers::sleep_until(failing.until).await;
        if endpoint.strong_count() == 0 {
            return;
        }
        let is_back = connector.probe(variant).await.is_ok();
        let Some(endpoint) = endpoint.upgrade() else { return };
        if is_back {
            endpoint.reachable();
        } else {
            endpoint.unreachable(true, true);
        }
    }
}

/// State that keeps an endpoint from requests.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unready {
    /// By failure accrual.
    Ejected,
    /// The last connect failed.
    Unreachable,
}

/// One request or connection in flight at an endpoint. Counts as load until dropped.
#[derive(Debug)]
#[must_use = "the endpoint is loaded as long as this lives"]
pub(crate) struct InFlight {
    pub(crate) endpoint: Rc<Endpoint>,
    ticket: Option<(Arc<EndpointBreaker>, Ticket)>,
    /// Time that the endpoint asks to be left alone, for its breaker.
    retry_after: Option<Duration>,
    /// Time at which the request was sent, while its answer is awaited.
    awaited: Option<Instant>,
    probing: bool,
    ended: bool,
}

impl InFlight {
    /// Records that the endpoint could not be connected to, by `variant` or for opaque bytes.
    pub(crate) fn unconnected(&mut self, variant: Option<Variant>) {
        let is_probe = std::mem::replace(&mut self.probing, false);
        self.endpoint.unconnected(is_probe, variant);
        self.awaited = None;
        self.outcome(Outcome::Failure);
    }

    /// Records an answer that the request never arrived at the application.
    pub(crate) fn never_arrived(&mut self) {
        let is_probe = std::mem::replace(&mut self.probing, false);
        self.endpoint.unreachable(is_probe, false);
        self.awaited = None;
        self.outcome(Outcome::Failure);
    }

    /// Records that the endpoint answered.
    pub(crate) fn reachable(&mut self) {
        self.probing = false;
        self.endpoint.reachable();
    }

    /// Records that the endpoint is asked for a connection or an answer from now on: without one, the time counts.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.awaited = Some(now);
    }

    /// Records that the request was not sent after all: its connection had ended.
    pub(crate) fn unsent(&mut self) {
        self.awaited = None;
    }

    /// Records that the first data of the answer came after `rtt`.
    pub(crate) fn answered(&mut self, rtt: Duration, now: Instant) {
        self.awaited = None;
        self.endpoint.load.record(rtt, now);
    }

    /// Returns true if it matters how long the endpoint asks to be left alone.
    pub(crate) fn honors_retry_after(&self) -> bool {
        self.ticket
            .as_ref()
            .is_some_and(|(breaker, _)| breaker.honors_retry_after())
    }

    /// Records how long the endpoint asks to be left alone.
    pub(crate) fn retry_after(&mut self, wait: Option<Duration>) {
        self.retry_after = wait;
    }

    /// Reports the end of the exchange to the breaker.
    pub(crate) fn outcome(&mut self, outcome: Outcome) {
        let Some((breaker, ticket)) = self.ticket.take() else {
            return;
        };
        let report = Report {
            outcome,
            retry_after: self.retry_after,
            now: Instant::now(),
        };
        breaker.record(ticket, report, &mut self.endpoint.context.rng.borrow_mut());
    }

    /// Stops counting as load; the rest of the exchange does not count.
    pub(crate) fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let endpoint = &self.endpoint;
        endpoint.load.end();
        if let Some(sent) = self.awaited.take() {
            let now = Instant::now();
            endpoint.load.unanswered(now.saturating_duration_since(sent), now);
        }
        if let Some((breaker, ticket)) = self.ticket.take() {
            breaker.abandon(ticket, Instant::now());
        }
        if self.probing
            && let Some(failing) = endpoint.failing.get()
        {
            // The outcome of the probe is unknown: the next request may probe.
            endpoint.failing.set(Some(ConnectFailure {
                probing: false,
                ..failing
            }));
            endpoint.changes.happened();
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.end();
    }
}

fn merged(set: &Labels, own: &Labels) -> Labels {
    match (set.is_empty(), own.is_empty()) {
        (true, _) => own.clone(),
        (_, true) => set.clone(),
        _ => {
            let mut labels = BTreeMap::clone(set);
            labels.extend(own.iter().map(|(k, v)| (k.clone(), v.clone())));
            Arc::new(labels)
        }
    }
}

fn tap_labels(labels: &Labels, tls: &Tls<'_>) -> Labels {
    use proxy_metrics::names::label;
    let mut labels = BTreeMap::clone(labels);
    match tls {
        Tls::Server(id) => {
            labels.insert(label::TLS.to_owned(), "true".to_owned());
            labels.insert(label::SERVER_ID.to_owned(), id.to_string());
        }
        Tls::None(why) => {
            labels.insert(label::TLS.to_owned(), "no_identity".to_owned());
            labels.insert(label::NO_TLS_REASON.to_owned(), why.as_str().to_owned());
        }
        Tls::Client(_) | Tls::Opaque(_) => {}
    }
    Arc::new(labels)
}
