//! One recorded call: what upstream said, and whether the index says the same.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use destination_index::{Context, Index, Refused, Workload};
use prost::Message;
use proxy_api::{decode, wire};
use proxy_model::{ClientPolicy, Endpoint, Profile, ServerPolicy, endpoint::Labels};
use serde_json::Value;

/// One recorded call.
pub(crate) struct Call {
    rpc: String,
    request: Vec<u8>,
    /// Messages with the step in which they came.
    pub(crate) messages: Vec<(u64, Vec<u8>)>,
    error: Option<String>,
}

impl Call {
    pub(crate) fn read(file: &Path) -> Self {
        let call: Value = serde_json::from_str(&fs::read_to_string(file).expect("a file")).expect("JSON");
        let bytes = |value: &Value| {
            BASE64_STANDARD
                .decode(value.as_str().unwrap_or_default())
                .expect("base64")
        };
        let messages = call["messages"].as_array().expect("a list").iter();
        Self {
            rpc: call["rpc"].as_str().expect("text").to_owned(),
            request: bytes(&call["request_bytes"]),
            messages: messages
                .map(|m| (m["step"].as_u64().unwrap_or(0), bytes(&m["bytes"])))
                .collect(),
            error: call["error"]["code"].as_str().map(str::to_owned),
        }
    }

    /// The call as it was up to the end of a step.
    pub(crate) fn until(&self, step: u64) -> Self {
        Self {
            rpc: self.rpc.clone(),
            request: self.request.clone(),
            messages: self.messages.iter().filter(|(at, _)| *at <= step).cloned().collect(),
            error: self.error.clone(),
        }
    }
}

/// What somebody answers: a value, or the name of a status.
#[derive(Debug, PartialEq)]
enum Answer {
    Endpoints(Labels, BTreeMap<SocketAddr, Endpoint>),
    Profile(Box<Profile>),
    Outbound(Box<ClientPolicy>),
    Inbound(Box<ServerPolicy>),
    Status(&'static str),
    Silence,
}

fn status(refused: &Refused) -> Answer {
    Answer::Status(match refused {
        Refused::Invalid(_) => "InvalidArgument",
        Refused::NotFound(_) => "NotFound",
        Refused::Unknown(_) => "Unknown",
        Refused::TooMany(_) => "ResourceExhausted",
    })
}

/// Whether the index answers a call as upstream did; if not, both answers.
pub(crate) fn compare(index: &mut Index, call: &Call) -> Result<(), String> {
    let theirs = match &call.error {
        Some(code) => Answer::Status(
            ["InvalidArgument", "NotFound", "Unknown"]
                .into_iter()
                .find(|c| c == code)
                .expect("known"),
        ),
        None => theirs(call),
    };
    let ours = ours(index, call);
    if ours == theirs {
        return Ok(());
    }
    // No endpoints: upstream is silent, we say so at once. A deliberate difference of the wire, not of the state.
    if let (Answer::Silence, Answer::Endpoints(_, endpoints)) = (&theirs, &ours)
        && endpoints.is_empty()
    {
        return Ok(());
    }
    let (theirs, ours) = (format!("{theirs:#?}"), format!("{ours:#?}"));
    Err(difference(&theirs, &ours))
}

fn theirs(call: &Call) -> Answer {
    let Some((_, last)) = call.messages.last() else {
        return Answer::Silence;
    };
    let last = last.as_slice();
    match call.rpc.as_str() {
        "Destination.Get" => endpoints(call),
        "Destination.GetProfile" => {
            let wire = wire::destination::DestinationProfile::decode(last).expect("protobuf");
            Answer::Profile(Box::new(decode::profile(wire).expect("valid")))
        }
        rpc if rpc.starts_with("OutboundPolicies") => {
            let wire = wire::outbound::OutboundPolicy::decode(last).expect("protobuf");
            Answer::Outbound(Box::new(decode::client_policy(wire).expect("valid")))
        }
        rpc if rpc.starts_with("InboundServerPolicies") => {
            let wire = wire::inbound::Server::decode(last).expect("protobuf");
            Answer::Inbound(Box::new(sorted(decode::server_policy(wire).expect("valid"))))
        }
        rpc => panic!("{rpc} is no call"),
    }
}

fn endpoints(call: &Call) -> Answer {
    use proxy_model::endpoint::Labels;
    let mut labels = Labels::default();
    let mut all = BTreeMap::new();
    for (_, message) in &call.messages {
        let wire = wire::destination::Update::decode(message.as_slice()).expect("protobuf");
        match decode::update(wire).expect("valid") {
            proxy_model::endpoint::EndpointUpdate::Add {
                labels: of_set,
                endpoints,
            } => {
                labels = of_set;
                all.extend(endpoints.into_iter().map(|endpoint| (endpoint.addr, endpoint)));
            }
            proxy_model::endpoint::EndpointUpdate::Remove(addrs) => addrs.iter().for_each(|addr| {
                all.remove(addr);
            }),
            proxy_model::endpoint::EndpointUpdate::NoEndpoints { .. } => all.clear(),
        }
    }
    Answer::Endpoints(labels, all)
}

fn sorted(mut policy: ServerPolicy) -> ServerPolicy {
    policy.authorizations.sort_by(|a, b| a.labels.cmp(&b.labels));
    policy
}

fn ours(index: &mut Index, call: &Call) -> Answer {
    let request = call.request.as_slice();
    let answer = match call.rpc.as_str() {
        "Destination.Get" => {
            let request =
                decode::get_destination(wire::destination::GetDestination::decode(request).expect("protobuf"));
            index
                .endpoints(&request.path, &Context::parse(&request.context))
                .map(|answer| {
                    let set = answer.borrow();
                    let all = set
                        .endpoints
                        .values()
                        .map(|endpoint| (endpoint.addr, (**endpoint).clone()));
                    Answer::Endpoints(set.labels.clone(), all.collect())
                })
        }
        "Destination.GetProfile" => {
            let request =
                decode::get_destination(wire::destination::GetDestination::decode(request).expect("protobuf"));
            let answer = index.profile(&request.path, &Context::parse(&request.context));
            answer.map(|answer| Answer::Profile(Box::new((**answer.borrow()).clone())))
        }
        rpc if rpc.starts_with("OutboundPolicies") => {
            let request = wire::outbound::TrafficSpec::decode(request).expect("protobuf");
            let Ok(request) = decode::traffic_spec(request) else {
                return Answer::Status("InvalidArgument");
            };
            Workload::parse(&request.workload)
                .and_then(|client| index.outbound(&request.target, &client))
                .map(|answer| Answer::Outbound(Box::new((**answer.borrow()).clone())))
        }
        _ => {
            let request = wire::inbound::PortSpec::decode(request).expect("protobuf");
            let Ok(request) = decode::port_spec(request) else {
                return Answer::Status("InvalidArgument");
            };
            Workload::parse(&request.workload)
                .and_then(|pod| index.inbound(&pod, request.port))
                .map(|answer| {
                    let policy: Arc<ServerPolicy> = answer.borrow().clone().expect("just found");
                    Answer::Inbound(Box::new(sorted((*policy).clone())))
                })
        }
    };
    answer.unwrap_or_else(|refused| status(&refused))
}

/// The lines around the first difference.
fn difference(theirs: &str, ours: &str) -> String {
    let (theirs, ours): (Vec<_>, Vec<_>) = (theirs.lines().collect(), ours.lines().collect());
    let first = theirs
        .iter()
        .zip(&ours)
        .position(|(a, b)| a != b)
        .unwrap_or(theirs.len().min(ours.len()));
    let around =
        |lines: &[&str]| lines[first.saturating_sub(6).min(lines.len())..lines.len().min(first + 6)].join("\n");
    format!("upstream:\n{}\nours:\n{}", around(&theirs), around(&ours))
}
