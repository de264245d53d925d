//! Calls: the lookup of each, and the encoding of its answer.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use destination_index::{Context, Workload};
use hyper::body::Incoming;
use linkerd2_proxy_api::{destination::GetDestination, inbound::PortSpec, outbound::TrafficSpec};
use proxy_api::{decode, encode};
use proxy_model::{ClientPolicy, Endpoint, EndpointSet, Profile, ServerPolicy, limits::Value};
use tokio::sync::watch;
use tonic::Status;

use crate::{
    Service,
    body::ResponseBody,
    cache::MessageCache,
    clients::Share,
    guard::StreamGuard,
    invalid, limits,
    message::{self, Encoded, Encoder, ReadError},
    rpc::Rpc,
    stream::ResponseStream,
};

/// Message caches, one for each kind of answer.
#[derive(Clone)]
pub(crate) struct MessageCaches {
    pub(crate) endpoints: Arc<MessageCache<EndpointSet>>,
    pub(crate) profiles: Arc<MessageCache<Profile>>,
    pub(crate) outbound: Arc<MessageCache<ClientPolicy>>,
    pub(crate) inbound: Arc<MessageCache<ServerPolicy>>,
}

impl Default for MessageCaches {
    fn default() -> Self {
        Self {
            endpoints: MessageCache::differences(updates),
            profiles: MessageCache::whole(|_, now| message::encode_raw(&encode::whole_profile(now))),
            outbound: MessageCache::whole(|_, now| message::encode_raw(&encode::whole_client_policy(now))),
            inbound: MessageCache::whole(|_, now| message::encode_raw(&encode::whole_server_policy(now))),
        }
    }
}

impl MessageCaches {
    pub(crate) fn sweep(&self) {
        self.endpoints.sweep();
        self.profiles.sweep();
        self.outbound.sweep();
        self.inbound.sweep();
    }
}

/// Subscription to an answer, with the names of target and client.
struct Subscription<V> {
    answers: watch::Receiver<V>,
    target: String,
    client: String,
}

impl Service {
    /// Handles a call.
    pub(crate) async fn call(&self, rpc: Rpc, body: Incoming, mut share: Share) -> Result<ResponseBody, Status> {
        let bytes = self.read(body).await?;
        share.end_read();
        match rpc {
            Rpc::Get => self.get(message::decode(&bytes)?, share),
            Rpc::GetProfile => self.get_profile(message::decode(&bytes)?, share),
            Rpc::OutboundGet => {
                let subscription = self.outbound(message::decode(&bytes)?)?;
                let policy = subscription.answers.borrow().clone();
                let encoded = self.caches.outbound.messages(None, &policy, &self.metrics);
                Ok(ResponseBody::once(encoded))
            }
            Rpc::OutboundWatch => {
                let Subscription {
                    answers,
                    target,
                    client,
                } = self.outbound(message::decode(&bytes)?)?;
                let guard = StreamGuard::new(&self.metrics, rpc, target, &client, share);
                Ok(ResponseBody::Outbound(ResponseStream::new(
                    answers,
                    &self.caches.outbound,
                    guard,
                )))
            }
            Rpc::InboundGet => {
                let subscription = self.inbound(message::decode(&bytes)?)?;
                let policy = subscription.answers.borrow().clone();
                // It may have been deleted since the lookup.
                let policy = policy.ok_or_else(|| Status::not_found("unknown server"))?;
                let encoded = self.caches.inbound.messages(None, &policy, &self.metrics);
                Ok(ResponseBody::once(encoded))
            }
            Rpc::InboundWatch => {
                let Subscription {
                    answers,
                    target,
                    client,
                } = self.inbound(message::decode(&bytes)?)?;
                let guard = StreamGuard::new(&self.metrics, rpc, target, &client, share);
                Ok(ResponseBody::Inbound(ResponseStream::new(
                    answers,
                    &self.caches.inbound,
                    guard,
                )))
            }
        }
    }

    async fn read(&self, body: Incoming) -> Result<Bytes, Status> {
        message::read(body).await.map_err(|error| match error {
            ReadError::Limit(limit) => {
                (self.refused)(limit);
                let reason = format!("the request exceeds the limit {} ({})", limit.name, limit.value);
                match limit.value {
                    Value::Time(_) => Status::deadline_exceeded(reason),
                    Value::Count(_) => Status::resource_exhausted(reason),
                }
            }
            ReadError::Ended(error) => Status::invalid_argument(format!("cannot read the request: {error}")),
        })
    }

    pub(crate) fn get(&self, request: GetDestination, share: Share) -> Result<ResponseBody, Status> {
        let request = decode::get_destination(request);
        let answers = self.index().endpoints(&request.path, &Context::parse(&request.context));
        let answers = answers.map_err(|refused| self.status(refused))?;
        let guard = StreamGuard::new(&self.metrics, Rpc::Get, request.path, &request.context, share);
        Ok(ResponseBody::Endpoints(ResponseStream::new(
            answers,
            &self.caches.endpoints,
            guard,
        )))
    }

    fn get_profile(&self, request: GetDestination, share: Share) -> Result<ResponseBody, Status> {
        let request = decode::get_destination(request);
        let answers = self.index().profile(&request.path, &Context::parse(&request.context));
        let answers = answers.map_err(|refused| self.status(refused))?;
        let guard = StreamGuard::new(&self.metrics, Rpc::GetProfile, request.path, &request.context, share);
        Ok(ResponseBody::Profile(ResponseStream::new(
            answers,
            &self.caches.profiles,
            guard,
        )))
    }

    fn outbound(&self, spec: TrafficSpec) -> Result<Subscription<Arc<ClientPolicy>>, Status> {
        let request = decode::traffic_spec(spec).map_err(invalid)?;
        let client = Workload::parse(&request.workload).map_err(|refused| self.status(refused))?;
        let answers = self
            .index()
            .outbound(&request.target, &client)
            .map_err(|refused| self.status(refused))?;
        Ok(Subscription {
            answers,
            target: request.target.to_string(),
            client: request.workload,
        })
    }

    fn inbound(&self, spec: PortSpec) -> Result<Subscription<Option<Arc<ServerPolicy>>>, Status> {
        let request = decode::port_spec(spec).map_err(invalid)?;
        let workload = Workload::parse(&request.workload).map_err(|refused| self.status(refused))?;
        let answers = self
            .index()
            .inbound(&workload, request.port)
            .map_err(|refused| self.status(refused))?;
        Ok(Subscription {
            answers,
            target: request.port.to_string(),
            client: request.workload,
        })
    }
}

/// Encodes the messages from one state to the next. Additions come before removals, so that a client is never left
/// without endpoints in between.
fn updates(last: Option<&EndpointSet>, now: &EndpointSet) -> Encoded {
    let mut messages = Encoder::default();
    let known = |endpoint: &Arc<Endpoint>| {
        last.and_then(|last| last.endpoints.get(&endpoint.addr))
            .is_some_and(|known| *known == *endpoint)
    };
    let added: Vec<&Endpoint> = now
        .endpoints
        .values()
        .filter(|endpoint| !known(endpoint))
        .map(|e| &**e)
        .collect();
    for chunk in added.chunks(limits::ENDPOINTS_PER_MESSAGE.value) {
        messages.message(&encode::add(&now.labels, chunk.iter().copied()));
    }
    let gone = last.into_iter().flat_map(|last| last.endpoints.keys());
    let gone: Vec<SocketAddr> = gone
        .filter(|addr| !now.endpoints.contains_key(*addr))
        .copied()
        .collect();
    for chunk in gone.chunks(limits::ENDPOINTS_PER_MESSAGE.value) {
        messages.message(&encode::remove(chunk.iter().copied()));
    }
    if last.is_none() && added.is_empty() {
        // An empty message, so that the client need not wait for endpoints.
        messages.message(&encode::add(&now.labels, []));
    }
    if !now.exists && last.is_none_or(|last| last.exists) {
        messages.message(&encode::no_endpoints(false));
    }
    messages.finish()
}
