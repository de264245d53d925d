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

use crate::{
    Error,
    budget::{HeldData, Holder},
};

/// Payload of a DATA frame: with its header it fills one TLS record. 16 KiB of data would take two records, one of nine
/// bytes.
const FRAME: usize = 16_384 - 9;

/// Sends a body in its stream until either has ended.
pub(crate) struct BodySender<B> {
    body: B,
    stream: SendStream<HeldData>,
    /// Account of the connection.
    holder: Rc<Holder>,
    /// There is room for the next frame of the body.
    has_room: bool,
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
    pub(crate) fn new(body: B, stream: SendStream<HeldData>, holder: Rc<Holder>) -> Self {
        Self {
            body,
            stream,
            holder,
            has_room: false,
        }
    }

    /// Waits until the window is open at all: h2 keeps what does not fit, and accepts no more until it is sent. A body
    /// is not read before, so a peer that reads nothing makes its stream hold nothing.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        if self.has_room {
            return Poll::Ready(Ok(()));
        }
        // One byte is enough to be notified of the window. Data that a body has not produced must not hold more.
        self.stream.reserve_capacity(1);
        while self.stream.capacity() == 0 {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(capacity) => drop(capacity?),
                None => return Poll::Ready(Err(Reason::CANCEL.into())), // Reset by the peer.
            }
        }
        self.has_room = self.holder.has_room(cx.waker());
        if self.has_room {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    fn send(&mut self, mut data: Bytes, is_last: bool) -> Result<(), h2::Error> {
        self.has_room = false;
        while data.len() > FRAME {
            self.stream
                .send_data(HeldData::new(data.split_to(FRAME), &self.holder), false)?;
        }
        self.stream.send_data(HeldData::new(data, &self.holder), is_last)
    }

    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            if self.stream.poll_reset(cx)?.is_ready() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_room(cx))?;
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => return Poll::Ready(self.send(Bytes::new(), true)),
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    tracing::debug!(%error, "request or response body failed");
                    self.stream
                        .send_reset(error.h2_reason().unwrap_or(Reason::INTERNAL_ERROR));
                    return Poll::Ready(Ok(()));
                }
            };
            match frame.into_data() {
                Ok(data) => {
                    let is_last = self.body.is_end_stream();
                    self.send(data, is_last)?;
                    if is_last {
                        return Poll::Ready(Ok(()));
                    }
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
