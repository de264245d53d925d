//! Keeps the beginning of a request body for resending: after a request that never arrived, and for retries.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};

use crate::{Body, Error};

/// Body of one attempt. Data read from the client is kept, up to the limit, for the next attempt.
#[derive(Debug)]
pub struct ReplayBody {
    shared: Rc<RefCell<ReplayState>>,
    attempt: u32,
    next_chunk: usize,
    trailers_sent: bool,
}

/// Source of the bodies of further attempts, held by the code that may resend the request.
#[derive(Debug)]
pub struct Replay(Rc<RefCell<ReplayState>>);

#[derive(Debug)]
struct ReplayState {
    /// Remaining body; none once it has been read completely.
    rest: Option<Body>,
    chunks: Vec<Bytes>,
    kept: usize,
    limit: usize,
    trailers: Option<HeaderMap>,
    /// More was read than may be kept: no further attempt is possible.
    overflowed: bool,
    /// Current attempt. An earlier attempt that is polled again fails.
    attempt: u32,
}

impl Replay {
    /// Makes `body` replayable up to `limit` bytes: returns the body to send, and the source of further ones.
    pub fn new(body: Body, limit: usize) -> (Body, Self) {
        let shared = Rc::new(RefCell::new(ReplayState {
            rest: Some(body),
            chunks: Vec::new(),
            kept: 0,
            limit,
            trailers: None,
            overflowed: false,
            attempt: 0,
        }));
        let first = ReplayBody {
            shared: shared.clone(),
            attempt: 0,
            next_chunk: 0,
            trailers_sent: false,
        };
        (Body::Replay(first), Self(shared))
    }

    /// Returns the body from its beginning for another attempt; none if it exceeded the limit.
    pub fn again(&self) -> Option<Body> {
        let mut shared = self.0.borrow_mut();
        if shared.overflowed {
            return None;
        }
        shared.attempt += 1;
        let attempt = shared.attempt;
        drop(shared);
        Some(Body::Replay(ReplayBody {
            shared: self.0.clone(),
            attempt,
            next_chunk: 0,
            trailers_sent: false,
        }))
    }

    /// Returns the whole body for another request, and its bytes; none unless it is complete.
    pub fn copied(&self) -> Option<(Body, usize)> {
        if !self.is_complete() {
            return None;
        }
        let shared = self.0.borrow();
        let copy = ReplayState {
            rest: None,
            chunks: shared.chunks.clone(),
            kept: shared.kept,
            limit: shared.limit,
            trailers: shared.trailers.clone(),
            overflowed: false,
            attempt: 0,
        };
        let body = ReplayBody {
            shared: Rc::new(RefCell::new(copy)),
            attempt: 0,
            next_chunk: 0,
            trailers_sent: false,
        };
        Some((Body::Replay(body), shared.kept))
    }

    /// Returns true if the whole body is kept: it was read to its end and fits.
    pub fn is_complete(&self) -> bool {
        let shared = self.0.borrow();
        shared.rest.as_ref().is_none_or(Body::is_end_stream) && !shared.overflowed
    }

    /// Returns true if the body exceeded the limit.
    pub fn is_overflowed(&self) -> bool {
        self.0.borrow().overflowed
    }
}

impl ReplayState {
    fn keep(&mut self, data: &Bytes) {
        if self.overflowed {
            return;
        }
        if self.kept + data.len() > self.limit {
            self.overflowed = true;
            self.chunks = Vec::new();
            return;
        }
        self.kept += data.len();
        self.chunks.push(data.clone());
    }
}

impl http_body::Body for ReplayBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let mut shared = this.shared.borrow_mut();
        if shared.attempt != this.attempt {
            return Poll::Ready(Some(Err(Error::Superseded)));
        }
        if let Some(chunk) = shared.chunks.get(this.next_chunk) {
            this.next_chunk += 1;
            return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
        }
        let Some(rest) = shared.rest.as_mut() else {
            let trailers = shared.trailers.clone().filter(|_| !this.trailers_sent);
            this.trailers_sent = true;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        };
        let frame = ready!(Pin::new(rest).poll_frame(cx));
        let Some(frame) = frame else {
            shared.rest = None;
            return Poll::Ready(None);
        };
        let frame = frame.inspect_err(|_| shared.overflowed = true)?;
        if let Some(data) = frame.data_ref() {
            shared.keep(data);
            this.next_chunk = shared.chunks.len();
        } else if let Some(trailers) = frame.trailers_ref() {
            shared.trailers = Some(trailers.clone());
            shared.rest = None;
            this.trailers_sent = true;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        let shared = self.shared.borrow();
        let kept_sent = self.next_chunk >= shared.chunks.len();
        let trailers_sent = shared.trailers.is_none() || self.trailers_sent;
        kept_sent && trailers_sent && shared.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let shared = self.shared.borrow();
        let kept: usize = shared.chunks.iter().skip(self.next_chunk).map(Bytes::len).sum();
        let rest = shared
            .rest
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(kept as u64));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(kept as u64));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn body_is_resent_from_its_beginning() {
        let (mut first, replay) = Replay::new(Body::Full(Bytes::from_static(b"hello")), 16);
        assert_eq!(first.size_hint().exact(), Some(5));
        let frame = first.frame().await.expect("a frame").expect("no error");
        assert_eq!(frame.data_ref().map(|d| &d[..]), Some(&b"hello"[..]));
        let again = replay.again().expect("it fits");
        assert_eq!(again.size_hint().exact(), Some(5));
        assert_eq!(again.collect().await.expect("no error").to_bytes(), "hello");
        assert!(matches!(first.frame().await, Some(Err(Error::Superseded))));
        assert!(replay.is_complete());
    }

    #[tokio::test]
    async fn complete_body_is_copied_whatever_happens_to_it() {
        let (first, replay) = Replay::new(Body::Full(Bytes::from_static(b"hello")), 16);
        assert!(replay.copied().is_none(), "nothing was read");
        first.collect().await.expect("no error");
        let (copy, bytes) = replay.copied().expect("it is complete");
        let again = replay.again().expect("it fits");
        drop(replay);
        assert_eq!((copy.size_hint().exact(), bytes), (Some(5), 5));
        for body in [copy, again] {
            assert_eq!(body.collect().await.expect("no error").to_bytes(), "hello");
        }
    }

    #[tokio::test]
    async fn body_above_the_limit_is_sent_once() {
        let (first, replay) = Replay::new(Body::Full(Bytes::from_static(b"hello")), 4);
        assert_eq!(first.collect().await.expect("no error").to_bytes(), "hello");
        assert!(replay.is_overflowed() && replay.again().is_none() && replay.copied().is_none());
    }
}
