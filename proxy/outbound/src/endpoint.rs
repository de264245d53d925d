//! One endpoint as this worker knows it: its load, its failures, its connections, its metrics. Survives every update that
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
use proxy_http::pool::Http1Pool;
use proxy_metrics::{HttpSlot, NoTls, OutboundLabels, Tls, TransportSlot};
use proxy_model::{Hint, Labels, TlsIdentity, outbound, route::Backoff};
use tokio::sync::Notify;

use crate::{connect::Http2Slot, worker::Shared};

/// One endpoint of one balancer, or a single one.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) shared: Rc<Shared>,
    pub(crate) model: Arc<proxy_model::Endpoint>,
    set_labels: Labels,
    /// For tap: its own labels over those of its set, and who it is.
    pub(crate) tap_labels: Labels,
    /// It is this workload itself.
    pub(crate) is_local: bool,
    pub(crate) load: PeakEwma,
    breaker: RefCell<Option<Breaker>>,
    failing: Cell<Option<Failing>>,
    /// Told whenever this endpoint may have become ready.
    changed: Rc<Notify>,
    backoff: Backoff,
    pub(crate) orig_proto: Http2Slot,
    pub(crate) http2: Http2Slot,
    pub(crate) http1: Rc<Http1Pool>,
    pub(crate) requests: Rc<HttpSlot>,
    pub(crate) transport: Arc<TransportSlot>,
}

/// It could not be reached lately.
#[derive(Copy, Clone, Debug)]
struct Failing {
    until: Instant,
    attempts: u32,
    /// Somebody is trying now.
    probing: bool,
}

/// How an endpoint is made.
pub(crate) struct Seed<'a> {
    pub(crate) shared: &'a Rc<Shared>,
    pub(crate) model: &'a Arc<proxy_model::Endpoint>,
    pub(crate) set_labels: &'a Labels,
    /// `name[:port]` for the label.
    pub(crate) authority: Option<&'a str>,
    pub(crate) ewma: outbound::PeakEwma,
    pub(crate) accrual: Option<&'a outbound::FailureAccrual>,
    pub(crate) changed: &'a Rc<Notify>,
}

impl Endpoint {
    pub(crate) fn new(seed: &Seed<'_>) -> Rc<Self> {
        let Seed {
            shared,
            model,
            authority,
            ..
        } = seed;
        let now = Instant::now();
        let is_local = shared.config.local_ips.contains(&model.addr.ip());
        let labels = merged(seed.set_labels, &model.labels);
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
        Rc::new(Self {
            requests: shared.metrics.outbound_http(&metric),
            transport: shared.metrics.outbound_transport(&metric),
            tap_labels: tap_labels(&labels, &tls),
            set_labels: seed.set_labels.clone(),
            is_local,
            load: PeakEwma::new(seed.ewma, now),
            breaker: RefCell::new(seed.accrual.and_then(|policy| Breaker::new(policy, now))),
            failing: Cell::new(None),
            changed: seed.changed.clone(),
            backoff: shared.config.connect_backoff,
            orig_proto: Http2Slot::default(),
            http2: Http2Slot::default(),
            http1: Http1Pool::new(shared.config.http1_idle),
            model: (*model).clone(),
            shared: (*shared).clone(),
        })
    }

    /// Whether this is still the endpoint that discovery describes.
    pub(crate) fn is_as(&self, model: &Arc<proxy_model::Endpoint>, set_labels: &Labels) -> bool {
        let same = Arc::ptr_eq(&self.model, model) || self.model == *model;
        same && (Arc::ptr_eq(&self.set_labels, set_labels) || self.set_labels == *set_labels)
    }

    /// Whom to expect there; none means no TLS.
    pub(crate) fn identity(&self) -> Option<&TlsIdentity> {
        self.model.identity.as_ref().filter(|_| !self.is_local)
    }

    /// HTTP/1 may ride in HTTP/2 to it.
    pub(crate) fn takes_orig_proto(&self) -> bool {
        self.model.hint == Hint::Http2 && !self.is_local
    }

    /// Whether a request may go there now.
    pub(crate) fn is_ready(&self, now: Instant) -> bool {
        let reachable = self.failing.get().is_none_or(|f| !f.probing && now >= f.until);
        reachable && self.is_admitted(now)
    }

    /// Whether its breaker lets a request through, reachable or not.
    pub(crate) fn is_admitted(&self, now: Instant) -> bool {
        self.breaker.borrow().as_ref().is_none_or(|b| b.is_ready(now))
    }

    /// When it may be ready again, if only time has to pass.
    pub(crate) fn ready_at(&self) -> Option<Instant> {
        let failing = self.failing.get().filter(|f| !f.probing).map(|f| f.until);
        let open = self.breaker.borrow().as_ref().and_then(Breaker::ready_at);
        failing.max(open)
    }

    /// Takes it for one request or connection.
    pub(crate) fn begin(self: &Rc<Self>, now: Instant) -> InFlight {
        let ticket = self
            .breaker
            .borrow_mut()
            .as_mut()
            .and_then(|breaker| breaker.admit(now));
        let probing = self.failing.get().map(|failing| {
            self.failing.set(Some(Failing {
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

    /// It could not be reached, or said that a request never arrived: others are preferred for a while. What fails beside
    /// the attempt that counts says nothing new.
    fn unreachable(&self, is_probe: bool) {
        let attempts = match self.failing.get() {
            None => 0,
            Some(failing) if is_probe => failing.attempts,
            Some(_) => return,
        };
        let wait = backoff::wait(&self.backoff, attempts, &mut self.shared.rng.borrow_mut());
        let until = Instant::now() + wait;
        self.failing.set(Some(Failing {
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

    /// A changed policy: what the breaker had counted is gone.
    pub(crate) fn set_accrual(&self, accrual: Option<&outbound::FailureAccrual>) {
        *self.breaker.borrow_mut() = accrual.and_then(|policy| Breaker::new(policy, Instant::now()));
        self.changed.notify_waiters();
    }
}

/// One request or connection under way at an endpoint. Counts as load until it is dropped.
#[derive(Debug)]
#[must_use = "the endpoint is loaded as long as this lives"]
pub(crate) struct InFlight {
    pub(crate) endpoint: Rc<Endpoint>,
    ticket: Option<Ticket>,
    probing: bool,
    ended: bool,
}

impl InFlight {
    /// It could not be reached.
    pub(crate) fn unreachable(&mut self) {
        let is_probe = std::mem::replace(&mut self.probing, false);
        self.endpoint.unreachable(is_probe);
    }

    /// The endpoint answered.
    pub(crate) fn reachable(&mut self) {
        self.probing = false;
        self.endpoint.reachable();
    }

    /// The first of the answer's data came after `rtt`.
    pub(crate) fn answered(&self, rtt: Duration, now: Instant) {
        self.endpoint.load.record(rtt, now);
    }

    /// The exchange ended, for the breaker.
    pub(crate) fn outcome(&mut self, outcome: Outcome) {
        let Some(ticket) = self.ticket.take() else { return };
        if let Some(breaker) = self.endpoint.breaker.borrow_mut().as_mut() {
            breaker.record(
                ticket,
                outcome,
                Instant::now(),
                &mut self.endpoint.shared.rng.borrow_mut(),
            );
        }
        self.endpoint.changed.notify_waiters();
    }

    /// No more load; what is left of the exchange does not count.
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
            // Nobody knows how the attempt would have ended: the next request may try.
            self.endpoint.failing.set(Some(Failing {
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
