//! Response stream that follows a watch channel. There is one per open stream, so it is small and shares its messages.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use hyper::body::Frame;
use tokio::sync::watch;
use tokio_util::sync::ReusableBoxFuture;

use crate::{cache::MessageCache, guard::StreamGuard};

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const OK: HeaderValue = HeaderValue::from_static("0");

/// Value of a watch channel. Without a state the stream ends, and the client should look up again.
pub(crate) trait Snapshot: Clone + Send + Sync + 'static {
    type State: Send + Sync + 'static;

    fn state(&self) -> Option<&Arc<Self::State>>;
}

impl<T: Send + Sync + 'static> Snapshot for Arc<T> {
    type State = T;

    fn state(&self) -> Option<&Arc<T>> {
        Some(self)
    }
}

impl<T: Send + Sync + 'static> Snapshot for Option<Arc<T>> {
    type State = T;

    fn state(&self) -> Option<&Arc<T>> {
        self.as_ref()
    }
}

type NextChange<A> = (Result<(), watch::error::RecvError>, watch::Receiver<A>);

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Ending,
    Ended,
}

/// Stream that sends the current state and each later one.
pub(crate) struct ResponseStream<A: Snapshot> {
    changed: ReusableBoxFuture<'static, NextChange<A>>,
    last: Option<Arc<A::State>>,
    cache: Arc<MessageCache<A::State>>,
    guard: StreamGuard,
    phase: Phase,
}

async fn changed<A: Snapshot>(mut answers: watch::Receiver<A>) -> NextChange<A> {
    let changed = answers.changed().await;
    (changed, answers)
}

impl<A: Snapshot> ResponseStream<A> {
    pub(crate) fn new(
        mut answers: watch::Receiver<A>,
        cache: &Arc<MessageCache<A::State>>,
        guard: StreamGuard,
    ) -> Self {
        // The current state is new to the client.
        answers.mark_changed();
        Self {
            changed: ReusableBoxFuture::new(changed(answers)),
            last: None,
            cache: cache.clone(),
            guard,
            phase: Phase::Open,
        }
    }

    /// Polls for the next bytes; none at the end.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            let (change, mut answers) = ready!(self.changed.poll(cx));
            if change.is_err() {
                return Poll::Ready(None);
            }
            let answer = answers.borrow_and_update().clone();
            let Some(now) = answer.state() else {
                return Poll::Ready(None);
            };
            self.changed.set(changed(answers));
            if self.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, now)) {
                continue;
            }
            let encoded = self.cache.messages(self.last.as_ref(), now, self.guard.metrics());
            self.last = Some(now.clone());
            if encoded.messages > 0 {
                self.guard.sent(encoded.messages);
                return Poll::Ready(Some(encoded.bytes));
            }
        }
    }
}

impl<A: Snapshot> hyper::body::Body for ResponseStream<A> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        if this.phase == Phase::Open {
            match ready!(this.poll_bytes(cx)) {
                Some(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                None => this.phase = Phase::Ending,
            }
        }
        if this.phase == Phase::Ending {
            this.phase = Phase::Ended;
            return Poll::Ready(Some(Ok(Frame::trailers(ok_trailers()))));
        }
        Poll::Ready(None)
    }
}

/// Returns the trailers of a successful call.
pub(crate) fn ok_trailers() -> HeaderMap {
    HeaderMap::from_iter([(STATUS, OK)])
}
