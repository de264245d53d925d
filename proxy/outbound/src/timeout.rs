//! Timeouts of one exchange: of the whole, of each attempt, of the response, and between frames.
//!
//! They are enforced where an attempt waits for its endpoint, so that an endpoint that lets one expire is blamed for
//! it. Only the timeouts of the whole exchange also hold while it waits for something else.

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
use tokio::time::Sleep;

use crate::Error;

/// Time limits of an exchange.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TimeLimits {
    /// Limits of a policy's route.
    pub(crate) timeouts: Timeouts,
    /// Time from the end of an attempt's request to the head of its response.
    pub(crate) attempt: Option<Duration>,
    /// Time to the head of the response by a profile's route.
    pub(crate) profile: Option<Duration>,
}

/// Longest time limit: what is added to the time of a clock must not exceed it.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

impl TimeLimits {
    fn cut(self) -> Self {
        let cut = |time: Option<Duration>| time.map(|time| time.min(LONGEST));
        let Timeouts {
            request,
            response,
            idle,
        } = self.timeouts;
        Self {
            timeouts: Timeouts {
                request: cut(request),
                response: cut(response),
                idle: cut(idle),
            },
            attempt: cut(self.attempt),
            profile: cut(self.profile),
        }
    }
}

/// Clock of one exchange. An exchange without time limits has none.
#[derive(Debug)]
pub(crate) struct Clock {
    limits: TimeLimits,
    started: Instant,
    /// Time at which the whole request of the current attempt was sent.
    sent: Cell<Option<Instant>>,
    /// Time of the last frame in either direction.
    last: Cell<Instant>,
}

/// Part of an exchange that a timeout may end.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Everything before the head of the response.
    Exchange,
    /// One attempt, until the head of its response.
    Attempt,
    /// The body of the response.
    Body,
}

impl Clock {
    pub(crate) fn new(limits: TimeLimits, started: Instant) -> Option<Rc<Self>> {
        if limits == TimeLimits::default() {
            return None;
        }
        Some(Rc::new(Self {
            limits: limits.cut(),
            started,
            sent: Cell::new(None),
            last: Cell::new(started),
        }))
    }

    /// Returns true if a timeout may end this part.
    pub(crate) fn limits(&self, phase: Phase) -> bool {
        let TimeLimits {
            timeouts,
            attempt,
            profile,
        } = &self.limits;
        match phase {
            Phase::Exchange => timeouts.request.is_some() || profile.is_some(),
            Phase::Attempt => attempt.is_some() || profile.is_some() || *timeouts != Timeouts::default(),
            Phase::Body => *timeouts != Timeouts::default(),
        }
    }

    /// Records a frame.
    pub(crate) fn frame(&self) {
        self.last.set(Instant::now());
    }

    /// Records that the whole request was sent.
    fn sent(&self) {
        if self.sent.get().is_none() {
            self.sent.set(Some(Instant::now()));
        }
    }

    /// Returns the soonest time at which a timeout expires, as far as known.
    fn expiry(&self, phase: Phase) -> Option<(Instant, Error)> {
        let TimeLimits {
            timeouts,
            attempt,
            profile,
        } = self.limits;
        let is_sent = |time: Option<Duration>| Some(self.sent.get()? + time?);
        let request = timeouts
            .request
            .map(|time| (self.started + time, Error::Timeout("request timeout")));
        let profile = profile
            .filter(|_| phase != Phase::Body)
            .map(|time| (self.started + time, Error::ProfileTimeout(time)));
        let sooner = |a: Option<(Instant, Error)>, b| a.into_iter().chain(b).min_by_key(|(at, _)| *at);
        let whole = sooner(request, profile);
        if phase == Phase::Exchange {
            return whole;
        }
        let response = is_sent(timeouts.response).map(|at| (at, Error::Timeout("response timeout")));
        let idle = timeouts
            .idle
            .map(|time| (self.last.get() + time, Error::Timeout("idle timeout")));
        let head = is_sent(attempt.filter(|_| phase == Phase::Attempt)).map(|at| (at, Error::AttemptTimeout));
        sooner(sooner(whole, response), sooner(idle, head))
    }

    /// Returns the time at which to look again: the expiry, or the soonest that one can be which has not started.
    fn look_at(&self, phase: Phase, now: Instant) -> Instant {
        let TimeLimits { timeouts, attempt, .. } = self.limits;
        let unsent = timeouts.response.into_iter().chain(attempt).min();
        let unsent = unsent.filter(|_| phase != Phase::Exchange && self.sent.get().is_none());
        let expiry = self.expiry(phase).map(|(at, _)| at);
        let soonest = expiry.into_iter().chain(unsent.map(|time| now + time)).min();
        soonest.unwrap_or_else(|| now + Duration::from_secs(86_400))
    }

    /// Starts an attempt. Wraps its request's body so that it reports its frames.
    pub(crate) fn attempt(self: &Rc<Self>, body: Body) -> Body {
        self.sent.set(None);
        self.frame();
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

/// Runs a part of an exchange until it ends or a timeout expires. Pinned by the caller, so that the caller's future
/// holds it once, not once for each way to wait.
pub(crate) async fn within<T>(
    clock: Option<&Rc<Clock>>,
    phase: Phase,
    work: Pin<&mut impl Future<Output = T>>,
) -> Result<T, Error> {
    match clock.filter(|clock| clock.limits(phase)) {
        None => Ok(work.await),
        Some(clock) => tokio::select! {
            biased;
            result = work => Ok(result),
            error = Expiry::new(clock, phase) => Err(error),
        },
    }
}

/// Future that ends with the error of the timeout that expires first.
#[derive(Debug)]
pub(crate) struct Expiry {
    clock: Rc<Clock>,
    phase: Phase,
    /// None until something has to be waited for.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Expiry {
    pub(crate) fn new(clock: &Rc<Clock>, phase: Phase) -> Self {
        Self {
            clock: clock.clone(),
            phase,
            sleep: None,
        }
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }
}

impl Future for Expiry {
    type Output = Error;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Error> {
        let this = &mut *self;
        loop {
            // The time decides, not the timer: of two timeouts that expire together the innermost is polled first, and
            // its timer may be the later one to fire.
            let now = Instant::now();
            if let Some((at, error)) = this.clock.expiry(this.phase)
                && at <= now
            {
                return Poll::Ready(error);
            }
            match &mut this.sleep {
                None => {
                    let until = this.clock.look_at(this.phase, now);
                    this.sleep = Some(Box::pin(timers::sleep_until(until)));
                }
                Some(sleep) => {
                    // No timeout can start in the meantime that expires before the next look.
                    ready!(sleep.as_mut().poll(cx));
                    let until = this.clock.look_at(this.phase, Instant::now());
                    sleep.as_mut().reset(until.into());
                }
            }
        }
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
