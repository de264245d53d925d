//! Body received in an HTTP/2 stream.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http_body::Frame;

use crate::{Body, Error};

/// Body of a stream. Reading it reopens the peer's window.
pub struct ReceivedBody {
    stream: RecvStream,
    has_data: bool,
    /// Marks the exchange as in progress.
    _active: Option<Rc<()>>,
}

impl ReceivedBody {
    pub(crate) fn body(stream: RecvStream, active: Option<Rc<()>>) -> Body {
        if stream.is_end_stream() {
            return Body::Empty;
        }
        Body::Received(Self {
            stream,
            has_data: true,
            _active: active,
        })
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.has_data {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Fails only if more is released than was received.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => {
                    return Poll::Ready(match error.reason() {
                        // Treated as an end; hyper does the same.
                        Some(Reason::NO_ERROR | Reason::CANCEL) => None,
                        _ => Some(Err(error.into())),
                    });
                }
                None => self.has_data = false,
            }
        }
        let trailers = ready!(Pin::new(&mut self.stream).poll_trailers(cx));
        Poll::Ready(match trailers {
            Ok(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
            Err(error) => Some(Err(error.into())),
        })
    }
}
