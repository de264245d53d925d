//! Response body on its way back: counted when it ends, however it ends.

use std::{
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use proxy_core::{breaker::Outcome, classify};
use proxy_http::{
    Body, Error,
    headers::{GRPC_STATUS, HeaderFlags},
};
use proxy_metrics::{
    Class, RequestGuard,
    outbound::{RouteKind, Status},
};
use proxy_model::Reason;

use crate::{
    endpoint::InFlight,
    error::label,
    route::{Plan, RouteSource},
    timeout::{Clock, Expiry, Phase},
};

/// Response body for the application.
pub(crate) struct ResponseBody {
    body: Body,
    track: Option<Box<Track>>,
    expiry: Option<Expiry>,
}

/// Metrics of a response. Large and moved often, so always boxed.
pub(crate) struct Track {
    status: StatusCode,
    is_grpc: bool,
    grpc_status: Option<u32>,
    framed: bool,
    /// True if the application gets this response.
    delivered: bool,
    flight: InFlight,
    endpoint: RequestGuard,
    actual: Option<RequestGuard>,
    route: Option<RequestGuard>,
    source: RouteSource,
    backend: usize,
    started: Instant,
    attempt_started: Instant,
}

/// End of an exchange.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum End {
    /// Complete, with the gRPC status of the trailers.
    Complete(Option<u32>),
    /// Broken off by the endpoint or a timeout.
    Broken(Reason),
    /// The client went away.
    Cancelled,
}

/// Metrics of one attempt.
pub(crate) struct Attempt {
    pub(crate) flight: InFlight,
    pub(crate) endpoint: RequestGuard,
    pub(crate) actual: Option<RequestGuard>,
    pub(crate) backend: usize,
    pub(crate) started: Instant,
}

impl Track {
    pub(crate) fn new(plan: &Plan, attempt: Attempt, response: &Response<Body>, seen: HeaderFlags) -> Box<Self> {
        let headers = response.headers();
        let Attempt {
            flight,
            endpoint,
            actual,
            backend,
            started,
        } = attempt;
        Box::new(Self {
            status: response.status(),
            is_grpc: classify::is_grpc(headers),
            grpc_status: seen
                .has(HeaderFlags::GRPC_STATUS)
                .then(|| grpc_status(headers))
                .flatten(),
            framed: false,
            delivered: false,
            flight,
            endpoint,
            actual,
            route: None,
            source: plan.source.clone(),
            backend,
            started: plan.started,
            attempt_started: started,
        })
    }

    /// Counts the response, which the application made.
    pub(crate) fn arrived(&mut self) {
        self.endpoint.response(self.status);
        if let Some(actual) = &mut self.actual {
            actual.response(self.status);
        }
    }

    /// Counts nothing: the request never reached the application and goes elsewhere.
    pub(crate) fn never_arrived(self) {
        self.endpoint.never_arrived();
        if let Some(actual) = self.actual {
            actual.never_arrived();
        }
    }

    /// Class by the head, or by early trailers.
    pub(crate) fn class(&self, grpc_status: Option<u32>) -> classify::Class {
        let classes = self.source.profile().map_or(&[][..], |route| &route.classes);
        classify::response(classes, self.status, self.is_grpc, grpc_status.or(self.grpc_status))
    }

    /// Address of the endpoint that answered.
    pub(crate) fn endpoint_addr(&self) -> SocketAddr {
        self.flight.endpoint.model.addr
    }

    /// gRPC status in the head.
    pub(crate) fn grpc_status(&self) -> Option<u32> {
        self.grpc_status
    }

    /// Returns true if trailers may change the class.
    pub(crate) fn is_grpc(&self) -> bool {
        self.is_grpc
    }

    /// Marks the response as the one that the application gets.
    pub(crate) fn is_final(&mut self, route: Option<RequestGuard>) {
        self.delivered = true;
        self.route = route;
        if let Some(route) = &mut self.route {
            route.response(self.status);
        }
    }

    /// Discards the response in favour of another attempt.
    pub(crate) fn discard(self: Box<Self>, grpc_status: Option<u32>) {
        self.end(End::Complete(grpc_status));
    }

    fn frame(&mut self) {
        if !self.framed {
            self.frame_at(Instant::now());
        }
    }

    /// The clock is read once for all metrics of one moment.
    fn frame_at(&mut self, now: Instant) {
        if std::mem::replace(&mut self.framed, true) {
            return;
        }
        self.endpoint.frame_at(now);
        if let Some(actual) = &mut self.actual {
            actual.frame_at(now);
        }
        if let Some(route) = &mut self.route {
            route.frame_at(now);
        }
        self.flight
            .answered(now.saturating_duration_since(self.attempt_started), now);
    }

    fn end(mut self: Box<Self>, end: End) {
        let now = Instant::now();
        if end != End::Cancelled {
            self.frame_at(now);
        }
        let grpc = match end {
            End::Complete(trailers) => trailers.or(self.grpc_status),
            End::Broken(_) | End::Cancelled => self.grpc_status,
        };
        let class = self.class(grpc);
        let metric = if class.is_failure() {
            Class::Failure
        } else {
            Class::Success
        };
        self.judge(end, grpc, class);
        let word = match end {
            End::Complete(_) => "",
            End::Broken(reason) => reason.row().route_word,
            End::Cancelled => Reason::ClientCancelled.row().route_word,
        };
        self.exchange(now, grpc, word);
        let count = |guard: RequestGuard| match end {
            End::Complete(_) => guard.end(metric, grpc),
            End::Broken(reason) => guard.fail(None, label(reason)),
            End::Cancelled => drop(guard),
        };
        count(self.endpoint);
        self.actual.into_iter().chain(self.route).for_each(count);
    }

    /// Reports a response to the breaker that is about to be discarded for a retry, which depends on the breaker.
    pub(crate) fn judge_early(&mut self, trailers: Option<u32>) {
        let grpc = trailers.or(self.grpc_status);
        let class = self.class(grpc);
        self.judge(End::Complete(grpc), grpc, class);
    }

    fn judge(&mut self, end: End, grpc: Option<u32>, class: classify::Class) {
        let outcome = match end {
            End::Broken(_) => Outcome::Failure,
            // What the client did not wait for counts by what it has seen, as in upstream.
            End::Complete(_) | End::Cancelled if classify::is_rate_limited(self.status, grpc) => Outcome::RateLimited,
            End::Complete(_) | End::Cancelled if class.is_failure() => Outcome::Failure,
            End::Complete(_) | End::Cancelled => Outcome::Success,
        };
        self.flight.outcome(outcome);
    }

    /// Counts the exchange in the families of policy routes.
    fn exchange(&self, now: Instant, grpc: Option<u32>, word: &'static str) {
        let Some(rule) = self.source.rule() else { return };
        let code = match rule.kind {
            RouteKind::Http => Some(u32::from(self.status.as_u16())),
            RouteKind::Grpc => grpc,
        };
        let status = Status {
            code,
            error: word.into(),
        };
        if self.delivered {
            rule.slot.end_at(self.started, now, status);
        }
        if let Some(slot) = &rule.distribution.backends[self.backend].slot {
            slot.responses.end_at(self.attempt_started, now, status);
        }
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

impl ResponseBody {
    /// Body of an endpoint's response, with its metrics.
    pub(crate) fn new(body: Body, track: Box<Track>, clock: Option<Rc<Clock>>) -> Self {
        Self {
            body,
            track: Some(track),
            expiry: clock.map(|clock| Expiry::new(&clock, Phase::Body)),
        }
    }

    /// Body of a response that the proxy made.
    pub(crate) fn plain(body: Body) -> Self {
        Self {
            body,
            track: None,
            expiry: None,
        }
    }

    fn end(&mut self, end: End) {
        self.expiry = None;
        if let Some(track) = self.track.take() {
            track.end(end);
        }
    }

    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Option<crate::Error> {
        match Pin::new(self.expiry.as_mut()?).poll(cx) {
            Poll::Ready(error) => Some(error),
            Poll::Pending => None,
        }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            let Some(error) = this.poll_timeout(cx) else {
                return Poll::Pending;
            };
            tracing::debug!(%error, "response timed out");
            this.body = Body::Empty;
            this.end(End::Broken(Reason::StreamTimeout));
            return Poll::Ready(Some(Err(Error::reset(h2::Reason::CANCEL))));
        };
        if let Some(track) = &mut this.track {
            track.frame();
        }
        if let Some(expiry) = &this.expiry {
            expiry.clock().frame();
        }
        match &frame {
            None => this.end(End::Complete(None)),
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.end(End::Complete(grpc_status(trailers)));
                }
            }
            Some(Err(error)) => {
                let is_reset = error.h2_reason().is_some();
                this.end(End::Broken(if is_reset {
                    Reason::StreamReset
                } else {
                    Reason::EndpointFailed
                }));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // A server does not poll a body to its end once it knows that no more frames come.
        let end = if self.body.is_end_stream() {
            End::Complete(None)
        } else {
            End::Cancelled
        };
        self.end(end);
    }
}
