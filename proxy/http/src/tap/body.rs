//! Response body that reports its end to the observers.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body as _, Frame, SizeHint};
use proxy_model::tap::StreamEnd;

use super::{TappedEnd, TappedRequest};
use crate::{Body, Error, headers::GRPC_STATUS};

/// Response body observed by tap.
#[derive(Debug)]
pub struct TappedBody {
    body: Body,
    tapped: TappedRequest,
    bytes: u64,
    grpc_status: Option<u32>,
}

impl TappedBody {
    /// Reports the response's head and wraps its body.
    pub fn wrap(response: Response<Body>, mut tapped: TappedRequest) -> Response<Body> {
        tapped.response(response.status(), response.headers());
        let (head, body) = response.into_parts();
        let mut body = Self {
            body,
            tapped,
            bytes: 0,
            grpc_status: grpc_status(&head.headers),
        };
        if body.body.is_end_stream() {
            body.finish(None);
        }
        Response::from_parts(head, Body::Tapped(Box::new(body)))
    }

    fn finish(&mut self, trailers: Option<&HeaderMap>) {
        let status = trailers.and_then(grpc_status).or(self.grpc_status);
        let end = status.map_or(StreamEnd::Complete, StreamEnd::Grpc);
        self.tapped.end(TappedEnd {
            bytes: self.bytes,
            end,
            trailers: trailers.cloned(),
        });
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

impl http_body::Body for TappedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        match &frame {
            None => this.finish(None),
            Some(Ok(frame)) => {
                this.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                if let Some(trailers) = frame.trailers_ref() {
                    this.finish(Some(trailers));
                } else if this.body.is_end_stream() {
                    this.finish(None);
                }
            }
            Some(Err(error)) => {
                let reason = error.h2_reason().unwrap_or(h2::Reason::CANCEL);
                let end = StreamEnd::Reset(reason.into());
                this.tapped.end(TappedEnd {
                    bytes: this.bytes,
                    end,
                    trailers: None,
                });
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
