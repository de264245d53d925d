//! Calls of one connection: the time since the last one, and the time that the oldest one has taken.
//!
//! A client that answers the PINGs of HTTP/2 could hold a connection without a call indefinitely, and one that opens no
//! window a response.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::{
    Request, Response,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    service::Service,
};
use proxy_model::limits::Limit;
use tokio::time::{Instant, sleep_until};

use super::{BoxError, HttpService, Limits, limits::SERVER_CHUNK_BYTES};

/// Calls of a connection; a shared handle.
#[derive(Clone, Debug)]
pub(super) struct Calls(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Beginning of each call that has not ended, by its number.
    running: BTreeMap<u64, Instant>,
    next: u64,
    /// End of the last call, else the beginning of the connection.
    quiet_since: Instant,
}

/// A call from its request to the end of its response.
#[derive(Debug)]
pub(super) struct CallGuard {
    calls: Calls,
    number: u64,
}

impl Calls {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            running: BTreeMap::new(),
            next: 0,
            quiet_since: Instant::now(),
        })))
    }

    /// Begins the time without a call anew.
    pub(super) fn restart(&self) {
        self.lock().quiet_since = Instant::now();
    }

    /// Returns the time without a call; none while there is one.
    pub(super) fn quiet_for(&self, now: Instant) -> Option<Duration> {
        let state = self.lock();
        state.running.is_empty().then(|| now.duration_since(state.quiet_since))
    }

    /// Tells whether there has been no call yet.
    pub(super) fn is_unused(&self) -> bool {
        self.lock().next == 0
    }

    /// Counts the calls of a service.
    pub(super) fn count<S: HttpService>(&self, service: S) -> CountedService<S> {
        let calls = self.clone();
        CountedService { service, calls }
    }

    /// Ends when a limit is exceeded, with that limit.
    pub(super) async fn exceeded(&self, limits: &Limits, is_http2: impl Fn() -> bool) -> Limit<Duration> {
        let Limits {
            first_call, idle, call, ..
        } = *limits;
        let Some(shortest) = [first_call, idle, call]
            .into_iter()
            .flatten()
            .map(|limit| limit.value)
            .min()
        else {
            return std::future::pending().await;
        };
        loop {
            let now = Instant::now();
            let deadline = match self.bound(limits, is_http2()) {
                Some((since, limit)) if since + limit.value <= now => return limit,
                Some((since, limit)) => since + limit.value,
                None => now + shortest,
            };
            // Another limit applies as soon as a call begins or ends.
            sleep_until(deadline.min(now + shortest)).await;
        }
    }

    /// Limit that applies now, and the beginning of its time.
    fn bound(&self, limits: &Limits, is_http2: bool) -> Option<(Instant, Limit<Duration>)> {
        let state = self.lock();
        if let Some(oldest) = state.running.values().next() {
            return limits.call.map(|call| (*oldest, call));
        }
        let quiet = match limits.first_call {
            // The time for the head of HTTP/1 has a limit already.
            Some(first_call) if state.next == 0 && is_http2 => Some(first_call),
            _ => limits.idle,
        };
        quiet.map(|limit| (state.quiet_since, limit))
    }

    pub(super) fn begin(&self) -> CallGuard {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.running.insert(number, Instant::now());
        CallGuard {
            calls: self.clone(),
            number,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock panics half-way through a change.
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        let mut state = self.calls.lock();
        state.running.remove(&self.number);
        state.quiet_since = Instant::now();
    }
}

/// Service whose calls are counted.
pub(super) struct CountedService<S> {
    service: S,
    calls: Calls,
}

impl<S: HttpService> Service<Request<Incoming>> for CountedService<S> {
    type Response = Response<CountedBody<S::Body>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let guard = self.calls.begin();
        let response = self.service.call(request);
        Box::pin(async move {
            let response = response.await.map_err(Into::into)?;
            Ok(response.map(|body| CountedBody {
                body: Box::pin(body),
                rest: Bytes::new(),
                _guard: guard,
            }))
        })
    }
}

/// Body of a counted call. It hands out no more at a time than [`SERVER_CHUNK_BYTES`], because HTTP/2 keeps what it was
/// given until the client opens its window.
pub(super) struct CountedBody<B> {
    body: Pin<Box<B>>,
    /// Rest of a frame.
    rest: Bytes,
    _guard: CallGuard,
}

impl<B: Body<Data = Bytes>> CountedBody<B> {
    fn chunk(&mut self) -> Frame<Bytes> {
        Frame::data(self.rest.split_to(self.rest.len().min(SERVER_CHUNK_BYTES.value)))
    }
}

impl<B: Body<Data = Bytes>> Body for CountedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.chunk())));
        }
        let Some(frame) = ready!(self.body.as_mut().poll_frame(cx)?) else {
            return Poll::Ready(None);
        };
        Poll::Ready(Some(Ok(match frame.into_data() {
            Ok(data) => {
                self.rest = data;
                self.chunk()
            }
            Err(trailers) => trailers,
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, mut hint) = (self.rest.len() as u64, self.body.size_hint());
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}
