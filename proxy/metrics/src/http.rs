//! Requests and responses: one slot per label set, one guard per request.

use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

use http::StatusCode;

use crate::{
    InboundHttpLabels, OutboundLabels, Recorder,
    labels::{LabelText, Word},
    names::{self, Family, classification, error, label},
    slot::{Counter, Histogram},
};

/// Class of a response.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Class {
    /// Success.
    Success,
    /// Failure.
    Failure,
}

impl Class {
    fn as_str(self) -> &'static str {
        match self {
            Self::Success => classification::SUCCESS,
            Self::Failure => classification::FAILURE,
        }
    }
}

/// The families that a slot counts into.
#[derive(Copy, Clone, Debug)]
struct Families {
    requests: &'static Family,
    responses: &'static Family,
    latency: Option<&'static Family>,
}

const HTTP: Families = Families {
    requests: &names::REQUEST_TOTAL,
    responses: &names::RESPONSE_TOTAL,
    latency: Some(&names::RESPONSE_LATENCY),
};
const ROUTE: Families = Families {
    requests: &names::ROUTE_REQUEST_TOTAL,
    responses: &names::ROUTE_RESPONSE_TOTAL,
    latency: Some(&names::ROUTE_RESPONSE_LATENCY),
};
const ROUTE_ACTUAL: Families = Families {
    requests: &names::ROUTE_ACTUAL_REQUEST_TOTAL,
    responses: &names::ROUTE_ACTUAL_RESPONSE_TOTAL,
    latency: None,
};

/// Requests and responses of one label set, as one worker counts them.
#[derive(Debug)]
pub struct HttpSlot {
    recorder: Recorder,
    families: Families,
    labels: String,
    requests: Counter,
    responses: RefCell<Vec<(ResponseKey, Counter)>>,
    latencies: RefCell<Vec<(u16, Histogram)>>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct ResponseKey {
    status: u16,
    class: Class,
    grpc: Option<u32>,
    error: Word,
}

impl HttpSlot {
    fn new(recorder: &Recorder, families: Families, labels: LabelText) -> Rc<Self> {
        let labels = labels.into_string();
        Rc::new(Self {
            requests: recorder.counter(families.requests, &labels),
            recorder: recorder.clone(),
            families,
            labels,
            responses: RefCell::default(),
            latencies: RefCell::default(),
        })
    }

    /// Counts a request that begins now.
    pub fn request(self: &Rc<Self>) -> RequestGuard {
        self.request_since(Instant::now())
    }

    /// Counts a request that began at `started`, so that several guards share one reading of the clock.
    pub fn request_since(self: &Rc<Self>, started: Instant) -> RequestGuard {
        let mut guard = self.attempt_since(started);
        guard.count();
        guard
    }

    /// A request that may never have arrived: it counts when its response or its failure is known, or when it is
    /// cancelled, but not when it is [discarded](RequestGuard::never_arrived).
    pub fn attempt_since(self: &Rc<Self>, started: Instant) -> RequestGuard {
        RequestGuard {
            slot: self.clone(),
            started,
            status: 0,
            counted: false,
            timed: false,
            done: false,
        }
    }

    fn count(&self, key: ResponseKey) {
        let mut responses = self.responses.borrow_mut();
        if let Some((_, counter)) = responses.iter().find(|(k, _)| *k == key) {
            return counter.inc();
        }
        let labels = LabelText::from(self.labels.as_str())
            .with(label::STATUS_CODE, Status(key.status))
            .with(label::CLASSIFICATION, key.class.as_str())
            .with(
                label::GRPC_STATUS,
                key.grpc.map(|code| code.to_string()).unwrap_or_default(),
            )
            .with(label::ERROR, key.error.0);
        let counter = self.recorder.counter(self.families.responses, labels.as_str());
        counter.inc();
        responses.push((key, counter));
    }

    fn time(&self, status: u16, latency: Duration) {
        let Some(family) = self.families.latency else { return };
        let mut latencies = self.latencies.borrow_mut();
        if let Some((_, histogram)) = latencies.iter().find(|(s, _)| *s == status) {
            return histogram.observe(latency);
        }
        let labels = LabelText::from(self.labels.as_str()).with(label::STATUS_CODE, Status(status));
        let histogram = self.recorder.histogram(family, labels.as_str());
        histogram.observe(latency);
        latencies.push((status, histogram));
    }
}

/// A status as a label; empty where there is none.
struct Status(u16);

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 == 0 { Ok(()) } else { self.0.fmt(f) }
    }
}

/// One request in flight. It is recorded once; if dropped before its end, as `cancelled`.
#[derive(Debug)]
#[must_use = "a request that is dropped counts as cancelled"]
pub struct RequestGuard {
    slot: Rc<HttpSlot>,
    started: Instant,
    status: u16,
    counted: bool,
    timed: bool,
    done: bool,
}

impl RequestGuard {
    /// When the request began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Records the response's head.
    pub fn response(&mut self, status: StatusCode) {
        self.count();
        self.status = status.as_u16();
    }

    /// Records a frame of the response's body; the first ends the latency.
    pub fn frame(&mut self) {
        if !self.timed {
            self.frame_at(Instant::now());
        }
    }

    /// The same, at a known time.
    pub fn frame_at(&mut self, now: Instant) {
        if !self.timed {
            self.timed = true;
            self.slot.time(self.status, now.saturating_duration_since(self.started));
        }
    }

    /// Records the response's end, with its gRPC status if it has one.
    pub fn end(mut self, class: Class, grpc_status: Option<u32>) {
        self.frame();
        self.record(class, grpc_status, "");
    }

    /// Records that the proxy failed the request ([`names::error`]); `status` is the client's response, if there was
    /// one.
    pub fn fail(mut self, status: Option<StatusCode>, error: &'static str) {
        if let Some(status) = status {
            self.status = status.as_u16();
            self.frame();
        }
        self.record(Class::Failure, None, error);
    }

    /// Discards a request that provably never arrived and is sent elsewhere.
    pub fn never_arrived(mut self) {
        self.done = true;
    }

    fn count(&mut self) {
        if !self.counted {
            self.counted = true;
            self.slot.requests.inc();
        }
    }

    fn record(&mut self, class: Class, grpc: Option<u32>, error: &'static str) {
        self.done = true;
        self.count();
        self.slot.count(ResponseKey {
            status: self.status,
            class,
            grpc,
            error: error.into(),
        });
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        if !self.done {
            // The client went away. With a head, the response counts by the head, as upstream's.
            let ok = self.status != 0 && self.status < 500;
            let class = if ok { Class::Success } else { Class::Failure };
            self.record(class, None, error::CANCELLED);
        }
    }
}

/// A route of a profile: responses to the application, attempts, and retries.
#[derive(Debug)]
pub struct RouteSlot {
    /// Requests of the application.
    pub route: Rc<HttpSlot>,
    /// Every attempt.
    pub actual: Rc<HttpSlot>,
    /// Failures that may be retried.
    pub retryable: Counter,
    /// Failures that were not retried because the budget was spent.
    pub no_budget: Counter,
}

impl Recorder {
    /// Requests to one outbound endpoint.
    pub fn outbound_http(&self, labels: &OutboundLabels<'_>) -> Rc<HttpSlot> {
        HttpSlot::new(self, HTTP, labels.text(None))
    }

    /// Requests to the application.
    pub fn inbound_http(&self, labels: &InboundHttpLabels<'_>) -> Rc<HttpSlot> {
        HttpSlot::new(self, HTTP, labels.text())
    }

    /// Requests of one route of a profile for `dst` (`name:port`).
    pub fn profile_route(
        &self,
        direction: proxy_model::tap::Direction,
        dst: &str,
        labels: &std::collections::BTreeMap<String, String>,
    ) -> RouteSlot {
        let text = || {
            LabelText::default()
                .direction(direction)
                .with(label::DST, dst)
                .prefixed(label::ROUTE_PREFIX, labels)
        };
        let skipped = text().with("skipped", "no_budget");
        RouteSlot {
            route: HttpSlot::new(self, ROUTE, text()),
            actual: HttpSlot::new(self, ROUTE_ACTUAL, text()),
            retryable: self.counter(&names::ROUTE_RETRYABLE_TOTAL, text().as_str()),
            no_budget: self.counter(&names::ROUTE_RETRYABLE_TOTAL, skipped.as_str()),
        }
    }
}
