//! Body type of every request and response that passes through the proxy.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use crate::{
    Error, http2::receive::ReceivedBody, pool::PooledBody, replay::ReplayBody, server::ServedBody, tap::TappedBody,
};

/// Boxed body, for rare cases.
pub type BoxedBody = Pin<Box<dyn http_body::Body<Data = Bytes, Error = Error>>>;

/// HTTP body. Only rare kinds are boxed.
#[derive(Default)]
pub enum Body {
    /// No content.
    #[default]
    Empty,
    /// Complete body in one piece.
    Full(Bytes),
    /// Body received over HTTP/1.
    Incoming(Incoming),
    /// Request body received over HTTP/1.
    Served(ServedBody),
    /// Response body of a pooled HTTP/1 connection; returns the connection to the pool at its end.
    Pooled(PooledBody),
    /// Body received in an HTTP/2 stream.
    Received(ReceivedBody),
    /// Request body that is kept for resending.
    Replay(ReplayBody),
    /// Response body observed by tap.
    Tapped(Box<TappedBody>),
    /// Any other body.
    Boxed(BoxedBody),
}

impl Body {
    /// Boxes a body of any kind.
    pub fn boxed<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes, Error = Error> + 'static,
    {
        Self::Boxed(Box::pin(body))
    }
}

impl From<Incoming> for Body {
    fn from(body: Incoming) -> Self {
        if body.is_end_stream() {
            Self::Empty
        } else {
            Self::Incoming(body)
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Body::Empty",
            Self::Full(_) => "Body::Full",
            Self::Incoming(_) => "Body::Incoming",
            Self::Served(_) => "Body::Served",
            Self::Pooled(_) => "Body::Pooled",
            Self::Received(_) => "Body::Received",
            Self::Replay(_) => "Body::Replay",
            Self::Tapped(_) => "Body::Tapped",
            Self::Boxed(_) => "Body::Boxed",
        })
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        match this {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *this = Self::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Incoming(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(Error::Hyper)))
            }
            Self::Served(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(Error::Hyper)))
            }
            Self::Pooled(body) => Pin::new(body).poll_frame(cx),
            Self::Received(body) => body.poll_frame(cx),
            Self::Replay(body) => Pin::new(body).poll_frame(cx),
            Self::Tapped(body) => Pin::new(body.as_mut()).poll_frame(cx),
            Self::Boxed(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Incoming(body) => body.is_end_stream(),
            Self::Served(body) => body.is_end_stream(),
            Self::Pooled(body) => body.is_end_stream(),
            Self::Received(body) => body.is_end_stream(),
            Self::Replay(body) => body.is_end_stream(),
            Self::Tapped(body) => body.is_end_stream(),
            Self::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Incoming(body) => body.size_hint(),
            Self::Served(body) => body.size_hint(),
            Self::Pooled(body) => body.size_hint(),
            Self::Received(_) => SizeHint::default(),
            Self::Replay(body) => body.size_hint(),
            Self::Tapped(body) => body.size_hint(),
            Self::Boxed(body) => body.size_hint(),
        }
    }
}
