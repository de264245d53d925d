//! `Destination`: endpoints and profiles.

use std::{net::SocketAddr, sync::Arc};

use destination_index::Context;
use linkerd2_proxy_api::destination::{DestinationProfile, GetDestination, Update, destination_server::Destination};
use proxy_api::{decode, encode};
use proxy_model::{Endpoint, EndpointSet};
use tonic::{Request, Response, Status, async_trait};

use crate::{
    Service,
    follow::{Messages, Step, follow},
    limits, status,
    streams::Guard,
};

const GET: &str = "Destination.Get";
const GET_PROFILE: &str = "Destination.GetProfile";

#[async_trait]
impl Destination for Service {
    type GetStream = Messages<Update>;
    type GetProfileStream = Messages<DestinationProfile>;

    async fn get(&self, request: Request<GetDestination>) -> Result<Response<Self::GetStream>, Status> {
        let request = decode::get_destination(request.into_inner());
        let answers = self.index().endpoints(&request.path, &Context::parse(&request.context));
        let answers = answers.map_err(|refused| self.refuse(GET, status(refused)))?;
        let guard = Guard::new(&self.metrics, GET, request.path, &request.context);
        let stream = follow(answers, self.stop.clone(), guard, |last, now| {
            Step::Send(updates(last.map(|last| &**last), now))
        });
        Ok(Response::new(stream))
    }

    async fn get_profile(&self, request: Request<GetDestination>) -> Result<Response<Self::GetProfileStream>, Status> {
        let request = decode::get_destination(request.into_inner());
        let answers = self.index().profile(&request.path, &Context::parse(&request.context));
        let answers = answers.map_err(|refused| self.refuse(GET_PROFILE, status(refused)))?;
        let guard = Guard::new(&self.metrics, GET_PROFILE, request.path, &request.context);
        let stream = follow(answers, self.stop.clone(), guard, |_, now| {
            Step::Send(vec![encode::profile(now)])
        });
        Ok(Response::new(stream))
    }
}

/// The messages that lead from one state to the next. What is new comes before what is gone, so that a client is never left
/// with nothing in between.
fn updates(last: Option<&EndpointSet>, now: &EndpointSet) -> Vec<Update> {
    let mut messages = vec![];
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
        messages.push(encode::add(&now.labels, chunk.iter().copied()));
    }
    let gone = last.into_iter().flat_map(|last| last.endpoints.keys());
    let gone: Vec<SocketAddr> = gone
        .filter(|addr| !now.endpoints.contains_key(*addr))
        .copied()
        .collect();
    for chunk in gone.chunks(limits::ENDPOINTS_PER_MESSAGE) {
        messages.push(encode::remove(chunk.iter().copied()));
    }
    if last.is_none() && messages.is_empty() {
        // Nothing to say is said too: the client need not wait for a message that does not come.
        messages.push(encode::add(&now.labels, []));
    }
    if !now.exists && last.is_none_or(|last| last.exists) {
        messages.push(encode::no_endpoints(false));
    }
    messages
}
