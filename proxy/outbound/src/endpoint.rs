//! State that one worker keeps for an endpoint: load, failures, connections, metrics. It survives every update that
//! does not change the endpoint itself.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use proxy_core::{
    backoff,
    balance::PeakEwma,
    breaker::{Breaker, Outcome, Ticket},
};
use proxy_metrics::{HttpSlot, NoTls, OutboundLabels, Tls};
use proxy_model::{Hint, Labels, TlsIdentity, outbound, route::Backoff};
use tokio::sync::Notify;

use crate::{connect::Connector, context::Context};

/// An endpoint of a balancer, or a single one.
#[derive(Debug)]
pub(crate) struct Endpoint {
    context: Rc<Context>,
    pub(crate) model: Arc<proxy_model::Endpoint>,
    set_labels: Labels,
    /// Labels for tap: those of the endpoint over those of its set, and its identity.
    pub(crate) tap_labels: Labels,
    pub(crate) load: PeakEwma,
    breaker: RefCell<Option<Breaker>>,
    failing: Cell<Option<ConnectFailure>>,
    /// Notified when this endpoint may have become ready.
    changed: Rc<Notify>,
    backoff: Backoff,
    pub(crate) connector: Rc<Connector>,
    pub(crate) requests: Rc<HttpSlot>,
}

/// Recent failure to reach the endpoint.
#[derive(Copy, Clone, Debug)]
struct ConnectFailure {
    until: Instant,
    attempts: u32,
    /// A request is trying the endpoint now.
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
    pub(crate) accrual: Option<&'a outbound::FailureAccrual>,
    pub(crate) changed: &'a Rc<Notify>,
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
            breaker: RefCell::new(params.accrual.and_then(|policy| Breaker::new(policy, now))),
            failing: Cell::new(None),
            changed: params.changed.clone(),
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
        let open = self.breaker.borrow().as_ref().and_then(Breaker::ready_at);
        failing.max(open)
    }

    /// Starts one request or connection.
    pub(crate) fn begin(self: &Rc<Self>, now: Instant) -> InFlight {
        let ticket = self
            .breaker
            .borrow_mut()
            .as_mut()
            .and_then(|breaker| breaker.admit(now));
        let probing = self.failing.get().map(|failing| {
            self.failing.set(Some(ConnectFailure {
                probing: true,
                ..failing
            }));
        });
        self.load.begin();
        InFlight {
            endpoint: self.clone(),
            ticket,
            probing: probing.is_some(),
            ended: false,
        }
    }

    /// Records a failure to connect, or an answer that the request never arrived: other endpoints are preferred for a
    /// while. While a probe is in progress, other failures are ignored.
    fn unreachable(&self, is_probe: bool) {
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
            probing: false,
        }));
        self.changed.notify_waiters();
    }

    fn reachable(&self) {
        if self.failing.take().is_some() {
            self.changed.notify_waiters();
        }
    }

    /// Applies a changed policy. Resets the breaker's counts.
    pub(crate) fn set_accrual(&self, accrual: Option<&outbound::FailureAccrual>) {
        *self.breaker.borrow_mut() = accrual.and_then(|policy| Breaker::new(policy, Instant::now()));
        self.changed.notify_waiters();
    }
}

/// One request or connection in flight at an endpoint. Counts as load until dropped.
#[derive(Debug)]
#[must_use = "the endpoint is loaded as long as this lives"]
pub(crate) struct InFlight {
    pub(crate) endpoint: Rc<Endpoint>,
    ticket: Option<Ticket>,
    probing: bool,
    ended: bool,
}

impl InFlight {
    /// Records that the endpoint could not be reached.
    pub(crate) fn unreachable(&mut self) {
        let is_probe = std::mem::replace(&mut self.probing, false);
        self.endpoint.unreachable(is_probe);
    }

    /// Records that the endpoint answered.
    pub(crate) fn reachable(&mut self) {
        self.probing = false;
        self.endpoint.reachable();
    }

    /// Records that the first data of the answer came after `rtt`.
    pub(crate) fn answered(&self, rtt: Duration, now: Instant) {
        self.endpoint.load.record(rtt, now);
    }

    /// Reports the end of the exchange to the breaker.
    pub(crate) fn outcome(&mut self, outcome: Outcome) {
        let Some(ticket) = self.ticket.take() else { return };
        if let Some(breaker) = self.endpoint.breaker.borrow_mut().as_mut() {
            breaker.record(
                ticket,
                outcome,
                Instant::now(),
                &mut self.endpoint.context.rng.borrow_mut(),
            );
        }
        self.endpoint.changed.notify_waiters();
    }

    /// Stops counting as load; the rest of the exchange does not count.
    pub(crate) fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.endpoint.load.end();
        if let Some(ticket) = self.ticket.take()
            && let Some(breaker) = self.endpoint.breaker.borrow_mut().as_mut()
        {
            breaker.abandon(ticket, Instant::now());
        }
        if self.probing
            && let Some(failing) = self.endpoint.failing.get()
        {
            // The outcome of the probe is unknown: the next request may probe.
            self.endpoint.failing.set(Some(ConnectFailure {
                probing: false,
                ..failing
            }));
            self.endpoint.changed.notify_waiters();
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
