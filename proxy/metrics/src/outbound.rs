//! Outbound routes, backends, balancers and errors.

use std::{cell::RefCell, net::SocketAddr, rc::Rc, time::Instant};

use proxy_model::Meta;

use crate::{
    Recorder,
    labels::{LabelText, Word},
    names::{self, Family, label},
    slot::{Counter, Gauge, Histogram},
};

/// Kind of a policy route, which decides the families.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// `outbound_http_route_*`.
    Http,
    /// `outbound_grpc_route_*`.
    Grpc,
}

/// End of an exchange, as labels of the registry families.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// HTTP status or gRPC code; none if there was none.
    pub code: Option<u32>,
    /// Word of the error; empty if there was none.
    pub error: Word,
}

/// Durations and statuses of a policy route, or of one backend of it.
#[derive(Debug)]
pub struct ExchangeSlot {
    recorder: Recorder,
    kind: RouteKind,
    statuses: &'static Family,
    labels: String,
    duration: Histogram,
    seen: RefCell<Vec<(Status, Counter)>>,
}

impl ExchangeSlot {
    /// Records an exchange that began at `started` and ends now.
    pub fn end(&self, started: Instant, status: Status) {
        self.end_at(started, Instant::now(), status);
    }

    /// Records an exchange that began at `started` and ended at `now`.
    pub fn end_at(&self, started: Instant, now: Instant, status: Status) {
        self.duration.observe(now.saturating_duration_since(started));
        let mut seen = self.seen.borrow_mut();
        if let Some((_, counter)) = seen.iter().find(|(s, _)| *s == status) {
            return counter.inc();
        }
        let labels = LabelText::from(self.labels.as_str());
        let labels = match self.kind {
            RouteKind::Http => labels.with("http_status", status.code.map(|c| c.to_string()).unwrap_or_default()),
            RouteKind::Grpc => labels.with("grpc_status", status.code.map(grpc_word).unwrap_or_default()),
        };
        let counter = self
            .recorder
            .counter(self.statuses, labels.with(label::ERROR, status.error.0).as_str());
        counter.inc();
        seen.push((status, counter));
    }
}

/// The word of a gRPC code.
pub fn grpc_word(code: u32) -> &'static str {
    const WORDS: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    WORDS.get(code as usize).copied().unwrap_or("UNKNOWN")
}

/// A backend of a policy route.
#[derive(Debug)]
pub struct BackendSlot {
    /// Requests sent to it.
    pub requests: Counter,
    /// Its responses.
    pub responses: ExchangeSlot,
}

/// Retries of a policy route.
#[derive(Debug)]
pub struct RetrySlot {
    /// Sent.
    pub requests: Counter,
    /// Succeeded.
    pub successes: Counter,
    /// Not sent: the limit or the budget was reached.
    pub limit_exceeded: Counter,
    /// Not sent: no endpoint was ready.
    pub overflow: Counter,
}

/// Copies of mirrored requests for one backend of a route.
#[derive(Debug)]
pub struct MirrorSlot {
    /// Answered, whatever the status.
    pub answered: Counter,
    /// Failed or took too long.
    pub failed: Counter,
    /// Not sent: the request's body was not complete, or too large to keep.
    pub incomplete: Counter,
    /// Not sent: a limit was reached.
    pub refused: Counter,
}

/// Breaker of one endpoint. A worker that holds the breaker's lock may write it.
#[derive(Debug)]
pub struct BreakerSlot {
    ejected: Gauge,
    /// Times that it was ejected.
    pub ejections: Counter,
}

impl BreakerSlot {
    /// Records whether the endpoint is ejected.
    pub fn set(&self, is_ejected: bool) {
        self.ejected.set(i64::from(is_ejected));
    }
}

impl Drop for BreakerSlot {
    fn drop(&mut self) {
        self.set(false);
    }
}

/// Endpoints of one balancer.
#[derive(Debug)]
pub struct BalancerSlot {
    ready: Gauge,
    pending: Gauge,
    set: RefCell<(usize, usize)>,
}

impl BalancerSlot {
    /// Replaces the numbers.
    pub fn endpoints(&self, ready: usize, pending: usize) {
        if *self.set.borrow() != (ready, pending) {
            *self.set.borrow_mut() = (ready, pending);
            self.ready.set(ready as i64);
            self.pending.set(pending as i64);
        }
    }
}

impl Drop for BalancerSlot {
    fn drop(&mut self) {
        self.endpoints(0, 0);
    }
}

impl Recorder {
    /// A policy route: `parent` is the destination.
    pub fn outbound_route(&self, kind: RouteKind, parent: &Meta, route: &Meta) -> Rc<ExchangeSlot> {
        let (duration, statuses) = match kind {
            RouteKind::Http => (
                &names::OUTBOUND_HTTP_ROUTE_REQUEST_DURATION,
                &names::OUTBOUND_HTTP_ROUTE_REQUEST_STATUSES,
            ),
            RouteKind::Grpc => (
                &names::OUTBOUND_GRPC_ROUTE_REQUEST_DURATION,
                &names::OUTBOUND_GRPC_ROUTE_REQUEST_STATUSES,
            ),
        };
        Rc::new(self.exchange(kind, (duration, statuses), route_labels(parent, route)))
    }

    /// A backend of a policy route.
    pub fn outbound_backend(&self, kind: RouteKind, parent: &Meta, route: &Meta, backend: &Meta) -> Rc<BackendSlot> {
        let labels = route_labels(parent, route)
            .meta("backend", backend)
            .meta_port("backend", backend);
        let (requests, duration, statuses) = match kind {
            RouteKind::Http => (
                &names::OUTBOUND_HTTP_ROUTE_BACKEND_REQUESTS,
                &names::OUTBOUND_HTTP_ROUTE_BACKEND_RESPONSE_DURATION,
                &names::OUTBOUND_HTTP_ROUTE_BACKEND_RESPONSE_STATUSES,
            ),
            RouteKind::Grpc => (
                &names::OUTBOUND_GRPC_ROUTE_BACKEND_REQUESTS,
                &names::OUTBOUND_GRPC_ROUTE_BACKEND_RESPONSE_DURATION,
                &names::OUTBOUND_GRPC_ROUTE_BACKEND_RESPONSE_STATUSES,
            ),
        };
        Rc::new(BackendSlot {
            requests: self.counter(requests, labels.as_str()),
            responses: self.exchange(kind, (duration, statuses), labels),
        })
    }

    fn exchange(
        &self,
        kind: RouteKind,
        families: (&'static Family, &'static Family),
        labels: LabelText,
    ) -> ExchangeSlot {
        ExchangeSlot {
            recorder: self.clone(),
            kind,
            statuses: families.1,
            duration: self.histogram(families.0, labels.as_str()),
            labels: labels.into_string(),
            seen: RefCell::default(),
        }
    }

    /// Retries of a policy route.
    pub fn outbound_retry(&self, parent: &Meta, route: &Meta) -> Rc<RetrySlot> {
        let labels = route_labels(parent, route);
        Rc::new(RetrySlot {
            requests: self.counter(&names::OUTBOUND_HTTP_ROUTE_RETRY_REQUESTS, labels.as_str()),
            successes: self.counter(&names::OUTBOUND_HTTP_ROUTE_RETRY_SUCCESSES, labels.as_str()),
            limit_exceeded: self.counter(&names::OUTBOUND_HTTP_ROUTE_RETRY_LIMIT_EXCEEDED, labels.as_str()),
            overflow: self.counter(&names::OUTBOUND_HTTP_ROUTE_RETRY_OVERFLOW, labels.as_str()),
        })
    }

    /// A mirror of a policy route.
    pub fn outbound_mirror(&self, parent: &Meta, route: &Meta, backend: &Meta) -> Rc<MirrorSlot> {
        let outcome = |outcome: &str| {
            let labels = route_labels(parent, route)
                .meta("backend", backend)
                .meta_port("backend", backend)
                .with(label::OUTCOME, outcome);
            self.counter(&names::MIRRORED, labels.as_str())
        };
        Rc::new(MirrorSlot {
            answered: outcome("answered"),
            failed: outcome("failed"),
            incomplete: outcome("incomplete"),
            refused: outcome("refused"),
        })
    }

    /// The balancer of a backend.
    pub fn http_balancer(&self, parent: &Meta, backend: &Meta) -> BalancerSlot {
        self.balancer(&names::OUTBOUND_HTTP_BALANCER_ENDPOINTS, parent, backend)
    }

    /// The balancer of an opaque backend.
    pub fn tcp_balancer(&self, parent: &Meta, backend: &Meta) -> BalancerSlot {
        self.balancer(&names::OUTBOUND_TCP_BALANCER_ENDPOINTS, parent, backend)
    }

    /// The breaker of an endpoint of a backend.
    pub fn breaker(&self, parent: &Meta, backend: &Meta, endpoint: SocketAddr) -> BreakerSlot {
        let labels = backend_labels(LabelText::default(), parent, backend)
            .with(label::TARGET_IP, endpoint.ip())
            .with(label::TARGET_PORT, endpoint.port());
        BreakerSlot {
            ejected: self.gauge(&names::BREAKER_EJECTED, labels.as_str()),
            ejections: self.counter(&names::BREAKER_EJECTIONS, labels.as_str()),
        }
    }

    fn balancer(&self, family: &'static Family, parent: &Meta, backend: &Meta) -> BalancerSlot {
        let gauge = |state: &str| {
            let labels = backend_labels(LabelText::default().with("endpoint_state", state), parent, backend);
            self.gauge(family, labels.as_str())
        };
        BalancerSlot {
            ready: gauge("ready"),
            pending: gauge("pending"),
            set: RefCell::default(),
        }
    }

    /// Outbound HTTP errors of the proxy's own ([`names::error`]).
    pub fn outbound_http_error(&self, error: &'static str) -> Counter {
        self.counter(
            &names::OUTBOUND_HTTP_ERRORS_TOTAL,
            LabelText::default().with(label::ERROR, error).as_str(),
        )
    }

    /// Outbound connections that failed.
    pub fn outbound_tcp_error(&self, error: &'static str) -> Counter {
        self.counter(
            &names::OUTBOUND_TCP_ERRORS_TOTAL,
            LabelText::default().with(label::ERROR, error).as_str(),
        )
    }

    /// Connections by protocol: `http/1`, `http/2`, `detect`, `opaq` or `tls`.
    pub fn outbound_protocol(&self, protocol: &'static str) -> Counter {
        let labels = LabelText::default().with("protocol", protocol);
        self.counter(&names::OUTBOUND_TCP_PROTOCOL_CONNECTIONS, labels.as_str())
    }

    /// Connections of an opaque route to `target`.
    pub fn tcp_route_open(&self, parent: &Meta, route: &Meta, target: SocketAddr) -> Counter {
        self.counter(
            &names::OUTBOUND_TCP_ROUTE_OPEN,
            tcp_route_labels(parent, route, target).as_str(),
        )
    }

    /// Connections of an opaque route that ended.
    pub fn tcp_route_close(&self, parent: &Meta, route: &Meta, target: SocketAddr, error: &'static str) -> Counter {
        let labels = tcp_route_labels(parent, route, target).with(label::ERROR, error);
        self.counter(&names::OUTBOUND_TCP_ROUTE_CLOSE, labels.as_str())
    }

    /// Requests that never arrived and were sent to another endpoint.
    pub fn never_arrived(&self) -> Counter {
        self.counter(&names::NEVER_ARRIVED, "")
    }
}

fn backend_labels(labels: LabelText, parent: &Meta, backend: &Meta) -> LabelText {
    labels
        .meta("parent", parent)
        .meta_port("parent", parent)
        .meta("backend", backend)
        .meta_port("backend", backend)
}

fn route_labels(parent: &Meta, route: &Meta) -> LabelText {
    LabelText::default()
        .meta("parent", parent)
        .meta_port("parent", parent)
        .meta("route", route)
}

fn tcp_route_labels(parent: &Meta, route: &Meta, target: SocketAddr) -> LabelText {
    route_labels(parent, route)
        .with(label::TARGET_IP, target.ip())
        .with(label::TARGET_PORT, target.port())
}
