//! `OutboundPolicies` and `InboundServerPolicies`.

use std::sync::Arc;

use destination_index::Workload;
use linkerd2_proxy_api::{
    inbound::{PortSpec, Server, inbound_server_policies_server::InboundServerPolicies},
    outbound::{OutboundPolicy, TrafficSpec, outbound_policies_server::OutboundPolicies},
};
use proxy_api::{decode, encode};
use proxy_model::{ClientPolicy, ServerPolicy};
use tokio::sync::watch;
use tonic::{Request, Response, Status, async_trait};

use crate::{
    Service,
    follow::{Messages, Step, follow},
    invalid, status,
    streams::Guard,
};

const OUTBOUND_GET: &str = "OutboundPolicies.Get";
const OUTBOUND_WATCH: &str = "OutboundPolicies.Watch";
const INBOUND_GET: &str = "InboundServerPolicies.GetPort";
const INBOUND_WATCH: &str = "InboundServerPolicies.WatchPort";

/// An answer, and who asked for what.
struct Asked<V> {
    answers: watch::Receiver<V>,
    target: String,
    client: String,
}

impl Service {
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

#[async_trait]
impl OutboundPolicies for Service {
    type WatchStream = Messages<OutboundPolicy>;

    async fn get(&self, request: Request<TrafficSpec>) -> Result<Response<OutboundPolicy>, Status> {
        let asked = self
            .outbound(request.into_inner())
            .map_err(|status| self.refuse(OUTBOUND_GET, status))?;
        let policy = asked.answers.borrow().clone();
        Ok(Response::new(encode::client_policy(&policy)))
    }

    async fn watch(&self, request: Request<TrafficSpec>) -> Result<Response<Self::WatchStream>, Status> {
        let asked = self
            .outbound(request.into_inner())
            .map_err(|status| self.refuse(OUTBOUND_WATCH, status))?;
        let guard = Guard::new(&self.metrics, OUTBOUND_WATCH, asked.target, &asked.client);
        let encode = |policy: &Arc<ClientPolicy>| Step::Send(vec![encode::client_policy(policy)]);
        Ok(Response::new(follow(
            asked.answers,
            self.stop.clone(),
            guard,
            move |_, now| encode(now),
        )))
    }
}

#[async_trait]
impl InboundServerPolicies for Service {
    type WatchPortStream = Messages<Server>;

    async fn get_port(&self, request: Request<PortSpec>) -> Result<Response<Server>, Status> {
        let asked = self
            .inbound(request.into_inner())
            .map_err(|status| self.refuse(INBOUND_GET, status))?;
        let policy = asked.answers.borrow().clone();
        // It was there a moment ago.
        let policy = policy.ok_or_else(|| self.refuse(INBOUND_GET, Status::not_found("unknown server")))?;
        Ok(Response::new(encode::server_policy(&policy)))
    }

    async fn watch_port(&self, request: Request<PortSpec>) -> Result<Response<Self::WatchPortStream>, Status> {
        let asked = self
            .inbound(request.into_inner())
            .map_err(|status| self.refuse(INBOUND_WATCH, status))?;
        let guard = Guard::new(&self.metrics, INBOUND_WATCH, asked.target, &asked.client);
        let stream = follow(asked.answers, self.stop.clone(), guard, |_, now| match now {
            Some(policy) => Step::Send(vec![encode::server_policy(policy)]),
            None => Step::End,
        });
        Ok(Response::new(stream))
    }
}
