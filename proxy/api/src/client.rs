//! Calls of the API: thin functions over the generated clients that yield model values.
//!
//! A stream's `Err(Error::Invalid)` is about one message, and the stream goes on; `Err(Error::Status)` is its end.

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream::BoxStream};
use http::uri::PathAndQuery;
use http_body::Body as HttpBody;
use linkerd2_proxy_api::{
    destination::destination_client::DestinationClient, identity::identity_client::IdentityClient,
    tap::tap_client::TapClient,
};
use proxy_model::{
    ClientPolicy, EndpointUpdate, OutboundTarget, Profile, ServerPolicy, limits::CONTROL_MESSAGE_BYTES, tap::TapEvent,
};
use tonic::{
    Status, Streaming,
    client::{Grpc, GrpcService},
};

use crate::{
    Certified, CertifyRequest, DestinationRequest, Error, InboundRequest, Observation, OutboundRequest, Result,
    TapDecoder, decode, encode,
    extension::{
        WholeCodec, decode_whole_client_policy, decode_whole_profile, decode_whole_server_policy,
        read_whole_client_policy, read_whole_profile, read_whole_server_policy,
    },
};

type StdError = Box<dyn std::error::Error + Send + Sync>;

/// Transport of calls: anything that answers HTTP/2 requests of gRPC.
pub trait Service:
    GrpcService<
        tonic::body::Body,
        Error: Into<StdError>,
        ResponseBody: HttpBody<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
    >
{
}

impl<S> Service for S where
    S: GrpcService<
            tonic::body::Body,
            Error: Into<StdError>,
            ResponseBody: HttpBody<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
        >
{
}

/// Values of a stream of the control plane.
pub type Updates<M> = BoxStream<'static, Result<M>>;

/// `OutboundPolicies.Watch`.
pub async fn watch_outbound(
    svc: impl Service,
    workload: &str,
    target: &OutboundTarget,
) -> Result<Updates<ClientPolicy>> {
    let request = OutboundRequest {
        workload: workload.to_owned(),
        target: target.clone(),
    };
    let path = PathAndQuery::from_static("/io.linkerd.proxy.outbound.OutboundPolicies/Watch");
    let codec = WholeCodec::new(read_whole_client_policy);
    let stream = whole(svc, path, encode::traffic_spec(&request), codec).await?;
    Ok(updates(stream, decode_whole_client_policy))
}

/// `InboundServerPolicies.WatchPort`.
pub async fn watch_inbound(svc: impl Service, workload: &str, port: u16) -> Result<Updates<ServerPolicy>> {
    let request = InboundRequest {
        workload: workload.to_owned(),
        port,
    };
    let path = PathAndQuery::from_static("/io.linkerd.proxy.inbound.InboundServerPolicies/WatchPort");
    let codec = WholeCodec::new(read_whole_server_policy);
    let stream = whole(svc, path, encode::port_spec(&request), codec).await?;
    Ok(updates(stream, decode_whole_server_policy))
}

/// `Destination.GetProfile`.
pub async fn get_profile(svc: impl Service, path: &str, context: &str) -> Result<Updates<Profile>> {
    let request = DestinationRequest {
        path: path.to_owned(),
        context: context.to_owned(),
    };
    let path = PathAndQuery::from_static("/io.linkerd.proxy.destination.Destination/GetProfile");
    let codec = WholeCodec::new(read_whole_profile);
    let stream = whole(svc, path, encode::get_destination(&request), codec).await?;
    Ok(updates(stream, decode_whole_profile))
}

/// Starts a stream whose messages have fields that the API lacks.
async fn whole<Q, R>(svc: impl Service, path: PathAndQuery, request: Q, codec: WholeCodec<Q, R>) -> Result<Streaming<R>>
where
    Q: prost::Message + 'static,
    R: Send + Sync + 'static,
{
    let mut client = Grpc::new(svc).max_decoding_message_size(CONTROL_MESSAGE_BYTES.value);
    client.ready().await.map_err(|error| unavailable(error.into()))?;
    let answer = client
        .server_streaming(tonic::Request::new(request), path, codec)
        .await?;
    Ok(answer.into_inner())
}

/// `Destination.Get`.
pub async fn get(svc: impl Service, path: &str, context: &str) -> Result<Updates<EndpointUpdate>> {
    let request = DestinationRequest {
        path: path.to_owned(),
        context: context.to_owned(),
    };
    let mut client = DestinationClient::new(svc).max_decoding_message_size(CONTROL_MESSAGE_BYTES.value);
    let stream = client.get(encode::get_destination(&request)).await?.into_inner();
    Ok(updates(stream, decode::update))
}

/// `Identity.Certify`.
pub async fn certify(svc: impl Service, identity: &str, token: Vec<u8>, csr_der: Vec<u8>) -> Result<Certified> {
    let request = CertifyRequest {
        identity: identity.to_owned(),
        token,
        csr_der,
    };
    let response = IdentityClient::new(svc)
        .certify(encode::certify_request(request))
        .await?;
    decode::certified(response.into_inner())
}

/// `Tap.Observe`. Events of a request whose first event is missing (dropped on the way) are left out.
pub async fn observe(svc: impl Service, observation: &Observation) -> Result<Updates<TapEvent>> {
    let stream = TapClient::new(svc)
        .observe(encode::observe_request(observation))
        .await?
        .into_inner();
    let mut decoder = TapDecoder::default();
    let events = stream.filter_map(move |message| {
        let event = message
            .map_err(Error::from)
            .and_then(|wire| decoder.decode(wire))
            .transpose();
        std::future::ready(event)
    });
    Ok(events.boxed())
}

fn unavailable(error: StdError) -> Error {
    Status::unavailable(error.to_string()).into()
}

fn updates<W, M>(stream: impl Stream<Item = Received<W>> + Send + 'static, decode: fn(W) -> Result<M>) -> Updates<M>
where
    W: 'static,
    M: 'static,
{
    stream
        .map(move |message| message.map_err(Error::from).and_then(decode))
        .boxed()
}

type Received<W> = std::result::Result<W, Status>;
