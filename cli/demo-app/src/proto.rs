//! gRPC messages and calls of the application, written by hand so that no build needs `protoc`.

use anyhow::{Context, Result};
use tonic::{
    Status,
    body::Body,
    client::Grpc as Client,
    codegen::http::{Request, Response, uri::PathAndQuery},
    server::{Grpc as Server, UnaryService},
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

/// Method that lists all emoji.
pub(super) const LIST: &str = "/mesh.demo.Emoji/List";
/// Method that finds an emoji by its shortcode.
pub(super) const FIND: &str = "/mesh.demo.Emoji/Find";
/// Method that votes for an emoji.
pub(super) const VOTE: &str = "/mesh.demo.Voting/Vote";

/// Request for all emoji.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ListRequest {}

/// List of all emoji.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ListReply {
    #[prost(message, repeated, tag = "1")]
    pub(super) emoji: Vec<Emoji>,
}

/// Emoji with its shortcode.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Emoji {
    #[prost(string, tag = "1")]
    pub(super) shortcode: String,
    #[prost(string, tag = "2")]
    pub(super) unicode: String,
}

/// Request for one emoji.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct FindRequest {
    #[prost(string, tag = "1")]
    pub(super) shortcode: String,
}

/// Response with the emoji, if it exists.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct FindReply {
    #[prost(message, optional, tag = "1")]
    pub(super) emoji: Option<Emoji>,
}

/// Request to vote.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct VoteRequest {
    #[prost(string, tag = "1")]
    pub(super) shortcode: String,
    /// Echoed in the response; a check looks for it on the wire.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) note: Vec<u8>,
}

/// Response to a vote.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct VoteReply {
    #[prost(string, tag = "1")]
    pub(super) version: String,
    #[prost(uint64, tag = "2")]
    pub(super) votes: u64,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) note: Vec<u8>,
}

/// Creates a client of the gRPC server at `url`; connects on first use, and reconnects.
pub(super) fn channel(url: &str) -> Result<Channel> {
    Ok(Endpoint::from_shared(url.to_owned())
        .with_context(|| format!("invalid URL {url:?}"))?
        .connect_lazy())
}

/// Calls the method at `path`.
pub(super) async fn call<Q, R>(channel: &Channel, path: &'static str, message: Q) -> Result<R, Status>
where
    Q: prost::Message + 'static,
    R: prost::Message + Default + 'static,
{
    let mut client = Client::new(channel.clone());
    client.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
    let codec = ProstCodec::<Q, R>::default();
    let path = PathAndQuery::from_static(path);
    client
        .unary(tonic::Request::new(message), path, codec)
        .await
        .map(tonic::Response::into_inner)
}

/// Handles a call with `service`.
pub(super) async fn answer<Q, R>(
    request: Request<hyper::body::Incoming>,
    service: impl UnaryService<Q, Response = R>,
) -> Response<Body>
where
    Q: prost::Message + Default + 'static,
    R: prost::Message + 'static,
{
    Server::new(ProstCodec::<R, Q>::default())
        .unary(service, request.map(Body::new))
        .await
}
