//! Body of any response.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, header};
use hyper::body::{Body, Frame, SizeHint};
use proxy_model::{ClientPolicy, EndpointSet, Profile, ServerPolicy};

use crate::{
    message::Encoded,
    stream::{self, ResponseStream},
};

/// Body of a response.
#[derive(Default)]
pub(crate) enum ResponseBody {
    /// No body: an error is in the headers.
    #[default]
    Empty,
    /// One message.
    Once(Bytes),
    /// Trailers after one message.
    Trailers,
    Endpoints(ResponseStream<Arc<EndpointSet>>),
    Profile(ResponseStream<Arc<Profile>>),
    Outbound(ResponseStream<Arc<ClientPolicy>>),
    Inbound(ResponseStream<Option<Arc<ServerPolicy>>>),
}

impl ResponseBody {
    pub(crate) fn once(encoded: Encoded) -> Self {
        Self::Once(encoded.bytes)
    }

    pub(crate) fn into_response(self) -> http::Response<Self> {
        let mut response = http::Response::new(self);
        let content_type = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        response
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Once(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Trailers;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Trailers => {
                *self = Self::Empty;
                Poll::Ready(Some(Ok(Frame::trailers(stream::ok_trailers()))))
            }
            Self::Endpoints(stream) => Pin::new(stream).poll_frame(cx),
            Self::Profile(stream) => Pin::new(stream).poll_frame(cx),
            Self::Outbound(stream) => Pin::new(stream).poll_frame(cx),
            Self::Inbound(stream) => Pin::new(stream).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            _ => SizeHint::default(),
        }
    }
}
