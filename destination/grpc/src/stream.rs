//! A stream that follows a watch channel: the body of a response. One per open stream, so it is small, and what it sends
//! is shared.

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

use crate::{shared::Shared, streams::Guard};

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const OK: HeaderValue = HeaderValue::from_static("0");

/// An answer of the index; none means that the stream is over, and that the client should ask again.
pub(crate) trait Answer: Clone + Send + Sync + 'static {
    type State: Send + Sync + 'static;

    fn state(&self) -> Option<&Arc<Self::State>>;
}

impl<T: Send + Sync + 'static> Answer for Arc<T> {
    type State = T;

    fn state(&self) -> Option<&Arc<T>> {
        Some(self)
    }
}

impl<T: Send + Sync + 'static> Answer for Option<Arc<T>> {
    type State = T;

    fn state(&self) -> Option<&Arc<T>> {
        self.as_ref()
    }
}

type Changed<A> = (Result<(), watch::error::RecvError>, watch::Receiver<A>);

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Ending,
    Ended,
}

/// Sends the state now, and each later one.
pub(crate) struct Follow<A: Answer> {
    changed: ReusableBoxFuture<'static, Changed<A>>,
    last: Option<Arc<A::State>>,
    shared: Arc<Shared<A::State>>,
    guard: Guard,
    phase: Phase,
}

async fn changed<A: Answer>(mut answers: watch::Receiver<A>) -> Changed<A> {
    let changed = answers.changed().await;
    (changed, answers)
}

impl<A: Answer> Follow<A> {
    pub(crate) fn new(mut answers: watch::Receiver<A>, shared: &Arc<Shared<A::State>>, guard: Guard) -> Self {
        // What holds now is news to the client.
        answers.mark_changed();
        Self {
            changed: ReusableBoxFuture::new(changed(answers)),
            last: None,
            shared: shared.clone(),
            guard,
            phase: Phase::Open,
        }
    }

    /// The next bytes; none at the end.
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
            let encoded = self.shared.messages(self.last.as_ref(), now, self.guard.metrics());
            self.last = Some(now.clone());
            if encoded.messages > 0 {
                self.guard.sent(encoded.messages);
                return Poll::Ready(Some(encoded.bytes));
            }
        }
    }
}

impl<A: Answer> hyper::body::Body for Follow<A> {
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
            return Poll::Ready(Some(Ok(Frame::trailers(ok()))));
        }
        Poll::Ready(None)
    }
}

/// What ends a call that went well.
pub(crate) fn ok() -> HeaderMap {
    HeaderMap::from_iter([(STATUS, OK)])
}
