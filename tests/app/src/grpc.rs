//! A gRPC service with one method that streams both ways, written by hand so that no build needs `protoc`.

use std::{convert::Infallible, pin::Pin};

use futures_util::{Stream, StreamExt as _, future::BoxFuture};
use http::{Request, Response};
use tonic::{Status, Streaming, body::Body, server::StreamingService};

/// Path of the method.
pub(crate) const PATH: &str = "/mesh.test.Echo/Stream";

/// A message of the stream.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Chunk {
    /// Number of the message within its stream.
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    /// Payload.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) data: Vec<u8>,
}

/// Echoes each chunk.
#[derive(Clone)]
struct Echo;

type Chunks = Pin<Box<dyn Stream<Item = Result<Chunk, Status>> + Send>>;

impl StreamingService<Chunk> for Echo {
    type Response = Chunk;
    type ResponseStream = Chunks;
    type Future = BoxFuture<'static, Result<tonic::Response<Chunks>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<Chunk>>) -> Self::Future {
        Box::pin(async move { Ok(tonic::Response::new(request.into_inner().boxed() as Chunks)) })
    }
}

/// Serves one HTTP/2 request.
pub(crate) async fn serve(request: Request<hyper::body::Incoming>) -> Result<Response<Body>, Infallible> {
    if request.uri().path() != PATH {
        return Ok(Status::unimplemented("no such method").into_http());
    }
    let codec = tonic_prost::ProstCodec::<Chunk, Chunk>::default();
    Ok(tonic::server::Grpc::new(codec)
        .streaming(Echo, request.map(Body::new))
        .await)
}
