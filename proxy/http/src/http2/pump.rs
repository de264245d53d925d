//! A body on its way into a stream of HTTP/2.

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

/// Bytes of a frame: with its head it fills one TLS record. Sixteen KiB of data would take two records, one of nine bytes.
const FRAME: usize = 16_384 - 9;

/// Moves a body into its stream until one of them has ended.
pub(crate) struct Pump<B> {
    body: B,
    stream: SendStream<Bytes>,
    /// Has come from the body, and waits for the peer's window.
    waiting: Option<Bytes>,
}

/// A body under way in a task of its own. It is broken off when this is dropped: nobody wants the answer any more.
pub(crate) struct Pumping(Option<AbortHandle>);

impl Pumping {
    /// The answer has begun; the body may go on to its end.
    pub(crate) fn go_on(mut self) {
        self.0 = None;
    }
}

impl Drop for Pumping {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            // With the stream's last handle gone, h2 resets it.
            task.abort();
        }
    }
}

/// Moves what is there already; only what is not gets a task. `active` is held until all is moved.
pub(crate) fn start<B>(mut pump: Pump<B>, active: Rc<()>) -> Option<Pumping>
where
    B: Body<Data = Bytes, Error = Error> + Unpin + 'static,
{
    // The task polls at once again, so it matters to nobody who is woken meanwhile.
    let mut cx = Context::from_waker(Waker::noop());
    if Pin::new(&mut pump).poll(&mut cx).is_ready() {
        return None;
    }
    let task = tokio::task::spawn_local(async move {
        pump.await;
        drop(active);
    });
    Some(Pumping(Some(task.abort_handle())))
}

impl<B> Pump<B>
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

    /// Sends what waits, as soon as the window is open at all: h2 keeps the rest, and takes no more until it is gone.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        if self.waiting.is_none() {
            return Poll::Ready(Ok(()));
        }
        while self.stream.capacity() == 0 {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(capacity) => drop(capacity?),
                None => return Poll::Ready(Err(Reason::CANCEL.into())), // The peer has reset it.
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
                    tracing::debug!(%error, "a body broke off");
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
                    // One byte is enough to be told of the window. What a body has not brought yet must not hold any of it.
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

impl<B> Future for Pump<B>
where
    B: Body<Data = Bytes, Error = Error> + Unpin,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let ended = ready!(self.get_mut().poll_all(cx));
        if let Err(error) = ended {
            tracing::debug!(%error, "a body was not taken");
        }
        Poll::Ready(())
    }
}
