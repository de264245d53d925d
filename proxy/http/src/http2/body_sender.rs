//! Body sent in an HTTP/2 stream.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body;
use tokio::task::AbortHandle;

use crate::Error;

/// Payload of a DATA frame: with its header it fills one TLS record. 16 KiB of data would take two records, one of nine
/// bytes.
const FRAME: usize = 16_384 - 9;

/// Sends a body in its stream until either has ended.
pub(crate) struct BodySender<B> {
    body: B,
    stream: SendStream<Bytes>,
    /// Read from the body, and waiting for the peer's window.
    waiting: Option<Bytes>,
}

/// Body sent by a task of its own. Dropping this aborts the task: the response is no longer wanted.
pub(crate) struct SendingTask(Option<AbortHandle>);

impl SendingTask {
    /// Lets the task run to its end; the response has begun.
    pub(crate) fn detach(mut self) {
        self.0 = None;
    }
}

impl Drop for SendingTask {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            // h2 resets the stream when its last handle is dropped.
            task.abort();
        }
    }
}

/// Sends what is available at once; only the rest needs a task. `active` is held until everything has been sent.
pub(crate) fn start<B>(mut sender: BodySender<B>, active: Rc<()>) -> Option<SendingTask>
where
    B: Body<Data = Bytes, Error = Error> + Unpin + 'static,
{
    // The task polls again at once, so wakeups until then do not matter.
    let mut cx = Context::from_waker(Waker::noop());
    if Pin::new(&mut sender).poll(&mut cx).is_ready() {
        return None;
    }
    let task = tokio::task::spawn_local(async move {
        sender.await;
        drop(active);
    });
    Some(SendingTask(Some(task.abort_handle())))
}

impl<B> BodySender<B>
where
    B: Body<Data = Bytes, Error = Error> + Unpin,
{
    pub(crate) fn new(body: B, stream: SendStream<Bytes>) -> Self {
        Self {
            body,
            stream,
            waiting: None,
        }
    }

    /// Sends waiting data as soon as the window is open at all: h2 keeps the rest, and accepts no more until it is
    /// sent.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        if self.waiting.is_none() {
            return Poll::Ready(Ok(()));
        }
        while self.stream.capacity() == 0 {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(capacity) => drop(capacity?),
                None => return Poll::Ready(Err(Reason::CANCEL.into())), // Reset by the peer.
            }
        }
        let Some(mut data) = self.waiting.take() else {
            return Poll::Ready(Ok(()));
        };
        while data.len() > FRAME {
            self.stream.send_data(data.split_to(FRAME), false)?;
        }
        Poll::Ready(self.stream.send_data(data, self.body.is_end_stream()))
    }

    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            if self.stream.poll_reset(cx)?.is_ready() {
                return Poll::Ready(Ok(()));
            }
            let was_waiting = self.waiting.is_some();
            ready!(self.poll_waiting(cx))?;
            if was_waiting && self.body.is_end_stream() {
                return Poll::Ready(Ok(()));
            }
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => return Poll::Ready(self.stream.send_data(Bytes::new(), true)),
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    tracing::debug!(%error, "request or response body failed");
                    self.stream
                        .send_reset(error.h2_reason().unwrap_or(Reason::INTERNAL_ERROR));
                    return Poll::Ready(Ok(()));
                }
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() => {
                    let is_last = self.body.is_end_stream();
                    self.stream.send_data(data, is_last)?;
                    if is_last {
                        return Poll::Ready(Ok(()));
                    }
                }
                Ok(data) => {
                    // Reserving one byte is enough to be notified of the window. Data that a body has not produced must
                    // not hold any of it.
                    self.stream.reserve_capacity(1);
                    self.waiting = Some(data);
                }
                Err(frame) => {
                    let Ok(trailers) = frame.into_trailers() else { continue };
                    self.stream.reserve_capacity(0);
                    return Poll::Ready(self.stream.send_trailers(trailers));
                }
            }
        }
    }
}

impl<B> Future for BodySender<B>
where
    B: Body<Data = Bytes, Error = Error> + Unpin,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let ended = ready!(self.get_mut().poll_all(cx));
        if let Err(error) = ended {
            tracing::debug!(%error, "body was not sent");
        }
        Poll::Ready(())
    }
}
