//! gRPC over a connection to a pod: one HTTP/2 connection as a tower service.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use anyhow::Result;
use http::{Request, Response, Uri};
use http_body::Body;
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

/// HTTP/2 connection. It closes when the last clone is dropped and all responses have been read.
pub(crate) struct Connection<B>(http2::SendRequest<B>);

impl<B> Clone for Connection<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B> Connection<B>
where
    B: Body + Unpin + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Performs the HTTP/2 handshake over a stream.
    pub(crate) async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Self> {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }
}

impl<B> tower::Service<Request<B>> for Connection<B>
where
    B: Body + Send + 'static,
{
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // HTTP/2 requires a scheme and an authority, whatever they are.
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        if let Ok(uri) = format!("http://localhost{path}").parse::<Uri>() {
            *request.uri_mut() = uri;
        }
        Box::pin(self.0.send_request(request))
    }
}
