//! A stream that follows a watch channel.

use std::collections::VecDeque;

use futures_util::{StreamExt, stream, stream::BoxStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{limits, streams::Guard};

/// Messages of a stream.
pub(crate) type Messages<M> = BoxStream<'static, Result<M, Status>>;

/// What a new state means for a stream.
pub(crate) enum Step<M> {
    /// Send these, in order.
    Send(Vec<M>),
    /// The stream is over; the client asks again.
    End,
}

struct State<V, M, F> {
    answers: watch::Receiver<V>,
    last: Option<V>,
    queue: VecDeque<M>,
    ended: bool,
    step: F,
    stop: CancellationToken,
    guard: Guard,
}

/// Sends what `step` makes of the state now and of each later one. `step` gets the state that was sent last.
pub(crate) fn follow<V, M, F>(
    answers: watch::Receiver<V>,
    stop: CancellationToken,
    guard: Guard,
    step: F,
) -> Messages<M>
where
    V: Clone + PartialEq + Send + Sync + 'static,
    M: Send + 'static,
    F: FnMut(Option<&V>, &V) -> Step<M> + Send + 'static,
{
    let state = State {
        answers,
        last: None,
        queue: VecDeque::new(),
        ended: false,
        step,
        stop,
        guard,
    };
    stream::unfold(state, |mut state| async move {
        loop {
            if let Some(message) = state.queue.pop_front() {
                state.guard.sent();
                return Some((Ok(message), state));
            }
            if state.ended || !state.next().await {
                return None;
            }
        }
    })
    .boxed()
}

impl<V: Clone + PartialEq, M, F: FnMut(Option<&V>, &V) -> Step<M>> State<V, M, F> {
    /// Waits for a state that differs and queues its messages; false when there will be none.
    async fn next(&mut self) -> bool {
        if self.last.is_some() {
            let changed = self.stop.run_until_cancelled(self.answers.changed()).await;
            if !matches!(changed, Some(Ok(()))) {
                return false;
            }
            tokio::time::sleep(limits::GATHER).await;
        }
        let now = self.answers.borrow_and_update().clone();
        if self.last.as_ref() == Some(&now) {
            return true;
        }
        match (self.step)(self.last.as_ref(), &now) {
            Step::Send(messages) => self.queue.extend(messages),
            Step::End => self.ended = true,
        }
        self.last = Some(now);
        true
    }
}
