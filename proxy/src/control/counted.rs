//! Body of a response that counts the call's end.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use proxy_metrics::ControlSlot;

/// Body of a response of the control plane.
pub(crate) struct CountedBody {
    body: Incoming,
    metrics: Option<ControlSlot>,
}

impl CountedBody {
    pub(crate) fn wrap(response: Response<Incoming>, metrics: ControlSlot) -> Response<Self> {
        let status = grpc_status(response.headers());
        let metrics = match status {
            Some(_) => {
                metrics.response(status);
                None
            }
            None => Some(metrics),
        };
        response.map(|body| Self { body, metrics })
    }

    fn ended(&mut self, status: Option<u32>) {
        if let Some(metrics) = self.metrics.take() {
            metrics.response(status);
        }
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

impl Body for CountedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    let status = grpc_status(trailers);
                    self.ended(status);
                }
            }
            Some(Err(_)) | None => self.ended(None),
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

impl Drop for CountedBody {
    fn drop(&mut self) {
        // Dropped before its end: cancelled.
        const CANCELLED: u32 = 1;
        self.ended(Some(CANCELLED));
    }
}
