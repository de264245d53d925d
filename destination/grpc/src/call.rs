//! The calls: what each asks of the index, and what is sent of its answer.

use std::net::SocketAddr;
use std::sync::Arc;

use destination_index::{Context, Workload};
use hyper::body::Incoming;
use linkerd2_proxy_api::{destination::GetDestination, inbound::PortSpec, outbound::TrafficSpec};
use proxy_api::{decode, encode};
use proxy_model::{ClientPolicy, Endpoint, EndpointSet, Profile, ServerPolicy};
use tokio::sync::watch;
use tonic::Status;

use crate::{
    Service,
    answer::Answer,
    follow::Follow,
    invalid, limits,
    message::{self, Encoded, Encoder},
    shared::Shared,
    status,
    streams::Guard,
};

/// A call of the API.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rpc {
    Get,
    GetProfile,
    OutboundGet,
    OutboundWatch,
    InboundGet,
    InboundWatch,
}

impl Rpc {
    pub(crate) const ALL: [Self; 6] = [
        Self::Get,
        Self::GetProfile,
        Self::OutboundGet,
        Self::OutboundWatch,
        Self::InboundGet,
        Self::InboundWatch,
    ];

    /// The call that a path names.
    pub(crate) fn of_path(path: &str) -> Option<Self> {
        Some(match path {
            "/io.linkerd.proxy.destination.Destination/Get" => Self::Get,
            "/io.linkerd.proxy.destination.Destination/GetProfile" => Self::GetProfile,
            "/io.linkerd.proxy.outbound.OutboundPolicies/Get" => Self::OutboundGet,
            "/io.linkerd.proxy.outbound.OutboundPolicies/Watch" => Self::OutboundWatch,
            "/io.linkerd.proxy.inbound.InboundServerPolicies/GetPort" => Self::InboundGet,
            "/io.linkerd.proxy.inbound.InboundServerPolicies/WatchPort" => Self::InboundWatch,
            _ => return None,
        })
    }

    /// The call as metrics and people name it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "Destination.Get",
            Self::GetProfile => "Destination.GetProfile",
            Self::OutboundGet => "OutboundPolicies.Get",
            Self::OutboundWatch => "OutboundPolicies.Watch",
            Self::InboundGet => "InboundServerPolicies.GetPort",
            Self::InboundWatch => "InboundServerPolicies.WatchPort",
        }
    }
}

/// What streams share, for each kind of answer.
#[derive(Clone)]
pub(crate) struct AllShared {
    pub(crate) endpoints: Arc<Shared<EndpointSet>>,
    pub(crate) profiles: Arc<Shared<Profile>>,
    pub(crate) outbound: Arc<Shared<ClientPolicy>>,
    pub(crate) inbound: Arc<Shared<ServerPolicy>>,
}

impl Default for AllShared {
    fn default() -> Self {
        let profile = |_: Option<&Profile>, now: &Profile| {
            let mut encoder = Encoder::default();
            encoder.raw(&encode::whole_profile(now));
            encoder.finish()
        };
        Self {
            endpoints: Shared::differences(updates),
            profiles: Shared::whole(profile),
            outbound: Shared::whole(|_, now| message::encode(&encode::client_policy(now))),
            inbound: Shared::whole(|_, now| message::encode(&encode::server_policy(now))),
        }
    }
}

impl AllShared {
    pub(crate) fn sweep(&self) {
        self.endpoints.sweep();
        self.profiles.sweep();
        self.outbound.sweep();
        self.inbound.sweep();
    }
}

/// An answer, and who asked for what.
struct Asked<V> {
    answers: watch::Receiver<V>,
    target: String,
    client: String,
}

impl Service {
    /// Answers a call.
    pub(crate) async fn call(&self, rpc: Rpc, body: Incoming) -> Result<Answer, Status> {
        match rpc {
            Rpc::Get => self.get(message::read(body).await?),
            Rpc::GetProfile => self.get_profile(message::read(body).await?),
            Rpc::OutboundGet => {
                let asked = self.outbound(message::read(body).await?)?;
                let policy = asked.answers.borrow().clone();
                let encoded = self.shared.outbound.messages(None, &policy, &self.metrics);
                Ok(Answer::once(encoded))
            }
            Rpc::OutboundWatch => {
                let Asked {
                    answers,
                    target,
                    client,
                } = self.outbound(message::read(body).await?)?;
                let guard = Guard::new(&self.metrics, rpc, target, &client);
                Ok(Answer::Outbound(Follow::new(answers, &self.shared.outbound, guard)))
            }
            Rpc::InboundGet => {
                let asked = self.inbound(message::read(body).await?)?;
                let policy = asked.answers.borrow().clone();
                // It was there a moment ago.
                let policy = policy.ok_or_else(|| Status::not_found("unknown server"))?;
                let encoded = self.shared.inbound.messages(None, &policy, &self.metrics);
                Ok(Answer::once(encoded))
            }
            Rpc::InboundWatch => {
                let Asked {
                    answers,
                    target,
                    client,
                } = self.inbound(message::read(body).await?)?;
                let guard = Guard::new(&self.metrics, rpc, target, &client);
                Ok(Answer::Inbound(Follow::new(answers, &self.shared.inbound, guard)))
            }
        }
    }

    pub(crate) fn get(&self, request: GetDestination) -> Result<Answer, Status> {
        let request = decode::get_destination(request);
        let answers = self.index().endpoints(&request.path, &Context::parse(&request.context));
        let answers = answers.map_err(status)?;
        let guard = Guard::new(&self.metrics, Rpc::Get, request.path, &request.context);
        Ok(Answer::Endpoints(Follow::new(answers, &self.shared.endpoints, guard)))
    }

    fn get_profile(&self, request: GetDestination) -> Result<Answer, Status> {
        let request = decode::get_destination(request);
        let answers = self.index().profile(&request.path, &Context::parse(&request.context));
        let answers = answers.map_err(status)?;
        let guard = Guard::new(&self.metrics, Rpc::GetProfile, request.path, &request.context);
        Ok(Answer::Profile(Follow::new(answers, &self.shared.profiles, guard)))
    }

    fn outbound(&self, spec: TrafficSpec) -> Result<Asked<Arc<ClientPolicy>>, Status> {
        let request = decode::traffic_spec(spec).map_err(invalid)?;
        let client = Workload::parse(&request.workload).map_err(status)?;
        let answers = self.index().outbound(&request.target, &client).map_err(status)?;
        Ok(Asked {
            answers,
            target: request.target.to_string(),
            client: request.workload,
        })
    }

    fn inbound(&self, spec: PortSpec) -> Result<Asked<Option<Arc<ServerPolicy>>>, Status> {
        let request = decode::port_spec(spec).map_err(invalid)?;
        let workload = Workload::parse(&request.workload).map_err(status)?;
        let answers = self.index().inbound(&workload, request.port).map_err(status)?;
        Ok(Asked {
            answers,
            target: request.port.to_string(),
            client: request.workload,
        })
    }
}

/// The messages that lead from one state to the next. What is new comes before what is gone, so that a client is never left
/// with nothing in between.
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
    for chunk in added.chunks(limits::ENDPOINTS_PER_MESSAGE) {
        messages.message(&encode::add(&now.labels, chunk.iter().copied()));
    }
    let gone = last.into_iter().flat_map(|last| last.endpoints.keys());
    let gone: Vec<SocketAddr> = gone
        .filter(|addr| !now.endpoints.contains_key(*addr))
        .copied()
        .collect();
    for chunk in gone.chunks(limits::ENDPOINTS_PER_MESSAGE) {
        messages.message(&encode::remove(chunk.iter().copied()));
    }
    if last.is_none() && added.is_empty() {
        // Nothing to say is said too: the client need not wait for a message that does not come.
        messages.message(&encode::add(&now.labels, []));
    }
    if !now.exists && last.is_none_or(|last| last.exists) {
        messages.message(&encode::no_endpoints(false));
    }
    messages.finish()
}
