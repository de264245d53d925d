//! A body that comes in a stream of HTTP/2.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http_body::Frame;

use crate::{Body, Error};

/// A body as it comes. What was taken opens the peer's window again.
pub struct Received {
    stream: RecvStream,
    has_data: bool,
    /// Says that an exchange is under way.
    _active: Option<Rc<()>>,
}

impl Received {
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
                    // It fails only if more is given back than came.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => {
                    return Poll::Ready(match error.reason() {
                        // An end, if not a regular one; hyper sees it so too.
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
