//! Timeouts of one exchange: request, response, and idle.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use proxy_http::Body;
use proxy_model::route::Timeouts;
use proxy_transport::timers;

/// Clock of one exchange. An exchange without timeouts has none.
#[derive(Debug)]
pub(crate) struct Clock {
    timeouts: Timeouts,
    started: Instant,
    /// Time at which the whole request was sent.
    sent: Cell<Option<Instant>>,
    /// Time of the last frame in either direction.
    last: Cell<Instant>,
}

impl Clock {
    pub(crate) fn new(timeouts: Timeouts, started: Instant) -> Option<Rc<Self>> {
        if timeouts == Timeouts::default() {
            return None;
        }
        Some(Rc::new(Self {
            timeouts,
            started,
            sent: Cell::new(None),
            last: Cell::new(started),
        }))
    }

    /// Records a frame.
    pub(crate) fn frame(&self) {
        self.last.set(Instant::now());
    }

    /// Records that the whole request was sent.
    pub(crate) fn sent(&self) {
        if self.sent.get().is_none() {
            self.sent.set(Some(Instant::now()));
        }
    }

    fn expiry(&self) -> (Instant, &'static str) {
        let never = self.started + Duration::from_secs(86_400 * 365);
        let request = self.timeouts.request.map(|t| (self.started + t, "request timeout"));
        let response = self
            .timeouts
            .response
            .zip(self.sent.get())
            .map(|(t, at)| (at + t, "response timeout"));
        let idle = self.timeouts.idle.map(|t| (self.last.get() + t, "idle timeout"));
        let soonest = [request, response, idle]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at);
        // Before the end of the request the response timeout has not started: check again later.
        let again = self
            .timeouts
            .response
            .filter(|_| self.sent.get().is_none())
            .map(|t| Instant::now() + t);
        match (soonest, again) {
            (Some((at, _)), Some(again)) if again < at => (again, ""),
            (None, Some(again)) => (again, ""),
            (Some(soonest), _) => soonest,
            (None, None) => (never, ""),
        }
    }

    /// Waits until a timeout expires. Returns its name.
    pub(crate) async fn expired(self: Rc<Self>) -> &'static str {
        loop {
            let (at, what) = self.expiry();
            if !what.is_empty() && at <= Instant::now() {
                return what;
            }
            timers::sleep_until(at).await;
        }
    }

    /// Wraps a request body so that it reports its frames.
    pub(crate) fn body(self: &Rc<Self>, body: Body) -> Body {
        if body.is_end_stream() {
            self.sent();
            return body;
        }
        Body::boxed(Timed {
            body,
            clock: self.clone(),
        })
    }
}

struct Timed {
    body: Body,
    clock: Rc<Clock>,
}

impl http_body::Body for Timed {
    type Data = Bytes;
    type Error = proxy_http::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, proxy_http::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.clock.frame();
        if frame.is_none() || self.body.is_end_stream() {
            self.clock.sent();
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
