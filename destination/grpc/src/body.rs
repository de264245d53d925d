//! The body of any response.

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
    follow::{self, Follow},
    message::Encoded,
};

/// The body of a response.
#[derive(Default)]
pub(crate) enum Answer {
    /// A refusal: all of it is in the headers.
    #[default]
    Nothing,
    /// One message.
    Once(Bytes),
    /// The end of one message.
    Ok,
    Endpoints(Follow<Arc<EndpointSet>>),
    Profile(Follow<Arc<Profile>>),
    Outbound(Follow<Arc<ClientPolicy>>),
    Inbound(Follow<Option<Arc<ServerPolicy>>>),
}

impl Answer {
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

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Nothing => Poll::Ready(None),
            Self::Once(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Ok;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Ok => {
                *self = Self::Nothing;
                Poll::Ready(Some(Ok(Frame::trailers(follow::ok()))))
            }
            Self::Endpoints(follow) => Pin::new(follow).poll_frame(cx),
            Self::Profile(follow) => Pin::new(follow).poll_frame(cx),
            Self::Outbound(follow) => Pin::new(follow).poll_frame(cx),
            Self::Inbound(follow) => Pin::new(follow).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Nothing => SizeHint::with_exact(0),
            _ => SizeHint::default(),
        }
    }
}
