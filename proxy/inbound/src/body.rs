//! Response body on its way to the client; records the end of the response once.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use proxy_core::classify;
use proxy_http::{
    Body, Error,
    headers::{GRPC_STATUS, HeaderFlags},
};
use proxy_metrics::{Class, RequestGuard, names};

/// Response body with the record of its request.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    body: Body,
    record: Option<Record>,
}

#[derive(Debug)]
struct Record {
    guard: RequestGuard,
    status: StatusCode,
    is_grpc: bool,
    grpc_status: Option<u32>,
}

impl ResponseBody {
    /// Wraps a response that is not recorded here.
    pub(crate) fn unrecorded(response: Response<Body>) -> Response<Self> {
        response.map(|body| Self { body, record: None })
    }

    /// Wraps a response whose end the guard records.
    pub(crate) fn recorded(response: Response<Body>, mut guard: RequestGuard, is_grpc: bool) -> Response<Self> {
        let status = response.status();
        guard.response(status);
        let (head, body) = response.into_parts();
        let record = Record {
            guard,
            status,
            is_grpc,
            grpc_status: HeaderFlags::from_headers(&head.headers)
                .has(HeaderFlags::GRPC_STATUS)
                .then(|| grpc_status(&head.headers))
                .flatten(),
        };
        let mut body = Self {
            body,
            record: Some(record),
        };
        if body.body.is_end_stream() {
            body.finish();
        }
        Response::from_parts(head, body)
    }

    fn finish(&mut self) {
        let Some(Record {
            guard,
            status,
            is_grpc,
            grpc_status,
        }) = self.record.take()
        else {
            return;
        };
        let class = match classify::response(&[], status, is_grpc, grpc_status) {
            classify::Class::Success => Class::Success,
            classify::Class::Failure => Class::Failure,
        };
        guard.end(class, grpc_status);
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        match &frame {
            None => this.finish(),
            Some(Ok(frame)) => {
                if let Some(record) = &mut this.record {
                    record.guard.frame();
                    if let Some(trailers) = frame.trailers_ref() {
                        record.grpc_status = grpc_status(trailers).or(record.grpc_status);
                    }
                }
                // A client that knows the length does not poll again.
                if frame.is_trailers() || this.body.is_end_stream() {
                    this.finish();
                }
            }
            Some(Err(_)) => {
                if let Some(record) = this.record.take() {
                    record.guard.fail(None, names::error::IO);
                }
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
