//! The four gRPC services: each turns a watched value into a stream of messages.

use std::{collections::BTreeMap, net::SocketAddr, pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt as _, stream};
use proxy_api::{
    decode, encode,
    wire::{
        destination::{self as destination_wire, destination_server::Destination},
        identity::{self as identity_wire, identity_server::Identity},
        inbound::{self as inbound_wire, inbound_server_policies_server::InboundServerPolicies},
        outbound::{self as outbound_wire, outbound_policies_server::OutboundPolicies},
    },
};
use proxy_model::{Endpoint, EndpointSet};
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{Call, script::Script};
use crate::values;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) script: Arc<Script>,
    pub(crate) stop: CancellationToken,
}

impl Service {
    /// A stream that breaks when the control plane stops.
    fn answers<T: Send + 'static>(
        &self,
        items: impl Stream<Item = Vec<Result<T, Status>>> + Send + 'static,
    ) -> Answers<T> {
        let stop = self.stop.clone().cancelled_owned();
        let gone = stream::once(std::future::ready(Err(Status::unavailable(
            "the control plane goes away",
        ))));
        Box::pin(items.flat_map(stream::iter).take_until(stop).chain(gone))
    }
}

fn invalid(error: proxy_api::Error) -> Status {
    Status::invalid_argument(error.message())
}

fn not_found<T>(what: &str) -> Result<T, Status> {
    Err(Status::not_found(format!("{what} was not set")))
}

#[tonic::async_trait]
impl OutboundPolicies for Service {
    type WatchStream = Answers<outbound_wire::OutboundPolicy>;

    async fn get(
        &self,
        request: Request<outbound_wire::TrafficSpec>,
    ) -> Result<Response<outbound_wire::OutboundPolicy>, Status> {
        let target = decode::traffic_spec(request.into_inner())
            .map_err(invalid)?
            .target
            .to_string();
        let policy = self.script.outbound.watch(&target).borrow().clone();
        policy.map_or_else(
            || not_found(&target),
            |policy| Ok(Response::new(encode::client_policy(&policy))),
        )
    }

    async fn watch(&self, request: Request<outbound_wire::TrafficSpec>) -> Result<Response<Self::WatchStream>, Status> {
        let target = decode::traffic_spec(request.into_inner())
            .map_err(invalid)?
            .target
            .to_string();
        self.script.called(Call::Outbound(target.clone()));
        let policies = self.script.outbound.watch(&target);
        if policies.borrow().is_none() {
            return not_found(&target);
        }
        let items = WatchStream::new(policies).map(move |policy| {
            vec![policy.map_or_else(|| not_found(&target), |policy| Ok(encode::client_policy(&policy)))]
        });
        Ok(Response::new(self.answers(items)))
    }
}

#[tonic::async_trait]
impl InboundServerPolicies for Service {
    type WatchPortStream = Answers<inbound_wire::Server>;

    async fn get_port(
        &self,
        request: Request<inbound_wire::PortSpec>,
    ) -> Result<Response<inbound_wire::Server>, Status> {
        let port = decode::port_spec(request.into_inner()).map_err(invalid)?.port;
        let policy = self.script.inbound.watch(&port.to_string()).borrow().clone();
        let policy = policy.unwrap_or_else(|| Arc::new(values::all_unauthenticated()));
        Ok(Response::new(encode::server_policy(&policy)))
    }

    async fn watch_port(
        &self,
        request: Request<inbound_wire::PortSpec>,
    ) -> Result<Response<Self::WatchPortStream>, Status> {
        let request = decode::port_spec(request.into_inner()).map_err(invalid)?;
        self.script.called(Call::Inbound(request.workload, request.port));
        let items = WatchStream::new(self.script.inbound.watch(&request.port.to_string())).map(|policy| {
            let policy = policy.unwrap_or_else(|| Arc::new(values::all_unauthenticated()));
            vec![Ok(encode::server_policy(&policy))]
        });
        Ok(Response::new(self.answers(items)))
    }
}

#[tonic::async_trait]
impl Destination for Service {
    type GetStream = Answers<destination_wire::Update>;
    type GetProfileStream = Answers<destination_wire::DestinationProfile>;

    async fn get(
        &self,
        request: Request<destination_wire::GetDestination>,
    ) -> Result<Response<Self::GetStream>, Status> {
        let path = decode::get_destination(request.into_inner()).path;
        self.script.called(Call::Endpoints(path.clone()));
        let sets = self.script.endpoints.watch(&path);
        if sets.borrow().is_none() {
            return not_found(&path);
        }
        let mut sent = BTreeMap::new();
        let items = WatchStream::new(sets).map(move |set| match set {
            Some(set) => difference(&mut sent, &set),
            None => vec![not_found(&path)],
        });
        Ok(Response::new(self.answers(items)))
    }

    async fn get_profile(
        &self,
        request: Request<destination_wire::GetDestination>,
    ) -> Result<Response<Self::GetProfileStream>, Status> {
        let path = decode::get_destination(request.into_inner()).path;
        self.script.called(Call::Profile(path.clone()));
        let items = WatchStream::new(self.script.profiles.watch(&path))
            .map(|profile| vec![Ok(encode::profile(&profile.unwrap_or_default()))]);
        Ok(Response::new(self.answers(items)))
    }
}

/// The messages that take a client from what it was sent to `set`, which is what it was sent afterwards.
fn difference(
    sent: &mut BTreeMap<SocketAddr, Arc<Endpoint>>,
    set: &EndpointSet,
) -> Vec<Result<destination_wire::Update, Status>> {
    let mut updates = Vec::new();
    let changed = set
        .endpoints
        .iter()
        .filter(|(addr, endpoint)| sent.get(*addr) != Some(*endpoint));
    let changed: Vec<&Endpoint> = changed.map(|(_, endpoint)| &**endpoint).collect();
    if !changed.is_empty() {
        updates.push(Ok(encode::add(&set.labels, changed)));
    }
    let gone: Vec<SocketAddr> = sent
        .keys()
        .filter(|addr| !set.endpoints.contains_key(*addr))
        .copied()
        .collect();
    if set.endpoints.is_empty() {
        updates.push(Ok(encode::no_endpoints(set.exists)));
    } else if !gone.is_empty() {
        updates.push(Ok(encode::remove(gone)));
    }
    sent.clone_from(&set.endpoints);
    updates
}

#[tonic::async_trait]
impl Identity for Service {
    async fn certify(
        &self,
        request: Request<identity_wire::CertifyRequest>,
    ) -> Result<Response<identity_wire::CertifyResponse>, Status> {
        let request = request.into_inner();
        self.script.called(Call::Certify(request.identity.clone()));
        // mesh-identity checks tokens; a test's control plane is reached by the test alone.
        let signed = self
            .script
            .pki
            .sign(&request.identity, &request.certificate_signing_request);
        let (leaf, intermediate_certificates) =
            signed.map_err(|error| Status::failed_precondition(error.to_string()))?;
        Ok(Response::new(identity_wire::CertifyResponse {
            leaf_certificate: leaf.der,
            intermediate_certificates,
            valid_until: Some(leaf.validity.not_after.into()),
        }))
    }
}
