//! One recorded call: what upstream said, and what the index says.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use destination_index::{Context, Index, Refused, Workload};
use prost::Message;
use proxy_api::{decode, wire};
use proxy_model::{ClientPolicy, Endpoint, EndpointSet, EndpointUpdate, Profile, ServerPolicy, endpoint::Labels};
use serde_json::Value;
use tokio::sync::watch;

/// One recorded call.
#[derive(Clone)]
pub(crate) struct Call {
    rpc: String,
    request: Vec<u8>,
    /// Messages with the step in which they came.
    messages: Vec<(u64, Vec<u8>)>,
    error: Option<String>,
    /// The step in which upstream ended the stream.
    pub(crate) ended_in: Option<u64>,
}

impl Call {
    /// Reads a call; other files have none.
    pub(crate) fn read(file: &Path) -> Option<Self> {
        let call: Value = serde_json::from_str(&fs::read_to_string(file).expect("a file")).expect("JSON");
        let rpc = call.get("rpc")?.as_str().expect("text").to_owned();
        let bytes = |value: &Value| {
            BASE64_STANDARD
                .decode(value.as_str().unwrap_or_default())
                .expect("base64")
        };
        let messages = call["messages"].as_array().expect("a list").iter();
        let ended = call["ended"].as_str().filter(|ended| ended.starts_with("by server"));
        let ended_in = ended.map(|ended| ended.rsplit("step ").next().expect("text").parse().expect("a step"));
        Some(Self {
            rpc,
            request: bytes(&call["request_bytes"]),
            messages: messages
                .map(|m| (m["step"].as_u64().unwrap_or(0), bytes(&m["bytes"])))
                .collect(),
            error: call["error"]["code"].as_str().map(str::to_owned),
            ended_in,
        })
    }

    /// The call as it was up to the end of a step.
    pub(crate) fn until(&self, step: u64) -> Self {
        let messages = self.messages.iter().filter(|(at, _)| *at <= step).cloned().collect();
        Self {
            messages,
            ended_in: self.ended_in.filter(|ended| *ended <= step),
            ..self.clone()
        }
    }

    /// Upstream's last answer.
    pub(crate) fn answer(&self) -> Answer {
        if let Some(code) = &self.error {
            return Answer::Status(code.clone());
        }
        if self.ended_in.is_some() {
            return Answer::Ended;
        }
        let Some((_, last)) = self.messages.last() else {
            return Answer::Silence;
        };
        let last = last.as_slice();
        match self.rpc.as_str() {
            "Destination.Get" => self.endpoints(),
            "Destination.GetProfile" => {
                let wire = wire::destination::DestinationProfile::decode(last).expect("protobuf");
                Answer::Profile(Box::new(decode::profile(wire).expect("valid")))
            }
            rpc if rpc.starts_with("OutboundPolicies") => {
                let wire = wire::outbound::OutboundPolicy::decode(last).expect("protobuf");
                Answer::Outbound(Box::new(decode::client_policy(wire).expect("valid")))
            }
            _ => {
                let wire = wire::inbound::Server::decode(last).expect("protobuf");
                Answer::Inbound(Box::new(sorted(decode::server_policy(wire).expect("valid"))))
            }
        }
    }

    fn endpoints(&self) -> Answer {
        let mut labels = Labels::default();
        let mut all = BTreeMap::new();
        for (_, message) in &self.messages {
            let wire = wire::destination::Update::decode(message.as_slice()).expect("protobuf");
            match decode::update(wire).expect("valid") {
                EndpointUpdate::Add {
                    labels: of_set,
                    endpoints,
                } => {
                    labels = of_set;
                    all.extend(endpoints.into_iter().map(|endpoint| (endpoint.addr, endpoint)));
                }
                EndpointUpdate::Remove(addrs) => all.retain(|addr, _| !addrs.contains(addr)),
                EndpointUpdate::NoEndpoints { .. } => all.clear(),
            }
        }
        Answer::Endpoints(labels, all)
    }
}

/// Answer: a value, or the name of a status.
#[derive(Debug, PartialEq)]
pub(crate) enum Answer {
    Endpoints(Labels, BTreeMap<SocketAddr, Endpoint>),
    Profile(Box<Profile>),
    Outbound(Box<ClientPolicy>),
    Inbound(Box<ServerPolicy>),
    Status(String),
    Silence,
    Ended,
}

fn sorted(mut policy: ServerPolicy) -> ServerPolicy {
    policy.authorizations.sort_by(|a, b| a.labels.cmp(&b.labels));
    policy
}

/// Our stream for a recorded call.
pub(crate) enum Open {
    Endpoints(watch::Receiver<Arc<EndpointSet>>),
    Profile(watch::Receiver<Arc<Profile>>),
    Outbound(watch::Receiver<Arc<ClientPolicy>>),
    Inbound(watch::Receiver<Option<Arc<ServerPolicy>>>),
    Refused(&'static str),
}

impl Open {
    pub(crate) fn new(index: &mut Index, call: &Call) -> Self {
        Self::ask(index, call).unwrap_or_else(|refused| {
            Self::Refused(match refused {
                Refused::Invalid(_) => "InvalidArgument",
                Refused::NotFound(_) => "NotFound",
                Refused::Unknown(_) => "Unknown",
                Refused::TooMany(_) => "ResourceExhausted",
            })
        })
    }

    fn ask(index: &mut Index, call: &Call) -> Result<Self, Refused> {
        let request = call.request.as_slice();
        let invalid = |error: proxy_api::Error| Refused::Invalid(error.to_string());
        match call.rpc.as_str() {
            rpc if rpc.starts_with("Destination") => {
                let wire = wire::destination::GetDestination::decode(request).expect("protobuf");
                let request = decode::get_destination(wire);
                let context = Context::parse(&request.context);
                if rpc == "Destination.Get" {
                    index.endpoints(&request.path, &context).map(Self::Endpoints)
                } else {
                    index.profile(&request.path, &context).map(Self::Profile)
                }
            }
            rpc if rpc.starts_with("OutboundPolicies") => {
                let wire = wire::outbound::TrafficSpec::decode(request).expect("protobuf");
                let request = decode::traffic_spec(wire).map_err(invalid)?;
                index
                    .outbound(&request.target, &Workload::parse(&request.workload)?)
                    .map(Self::Outbound)
            }
            _ => {
                let wire = wire::inbound::PortSpec::decode(request).expect("protobuf");
                let request = decode::port_spec(wire).map_err(invalid)?;
                index
                    .inbound(&Workload::parse(&request.workload)?, request.port)
                    .map(Self::Inbound)
            }
        }
    }

    pub(crate) fn answer(&mut self) -> Answer {
        match self {
            Self::Endpoints(answers) => {
                let set = answers.borrow_and_update();
                let all = set
                    .endpoints
                    .values()
                    .map(|endpoint| (endpoint.addr, (**endpoint).clone()));
                Answer::Endpoints(set.labels.clone(), all.collect())
            }
            Self::Profile(answers) => Answer::Profile(Box::new((**answers.borrow_and_update()).clone())),
            Self::Outbound(answers) => {
                let mut policy = (**answers.borrow_and_update()).clone();
                // An extension, which is not on upstream's wire.
                policy.targets = None;
                Answer::Outbound(Box::new(policy))
            }
            Self::Inbound(answers) => match &*answers.borrow_and_update() {
                Some(policy) => Answer::Inbound(Box::new(sorted((**policy).clone()))),
                None => Answer::Ended,
            },
            Self::Refused(code) => Answer::Status((*code).to_owned()),
        }
    }
}

/// Difference of two answers: the lines around the first one.
pub(crate) fn difference(theirs: &Answer, ours: &Answer) -> Option<String> {
    // No endpoints: upstream is silent, we say so at once. A deliberate difference of the wire, not of the state.
    let nothing = matches!(ours, Answer::Endpoints(_, endpoints) if endpoints.is_empty());
    if theirs == ours || (*theirs == Answer::Silence && nothing) {
        return None;
    }
    let (theirs, ours) = (format!("{theirs:#?}"), format!("{ours:#?}"));
    let (theirs, ours): (Vec<_>, Vec<_>) = (theirs.lines().collect(), ours.lines().collect());
    let first = theirs
        .iter()
        .zip(&ours)
        .position(|(a, b)| a != b)
        .unwrap_or(theirs.len().min(ours.len()));
    let around =
        |lines: &[&str]| lines[first.saturating_sub(6).min(lines.len())..lines.len().min(first + 6)].join("\n");
    Some(format!("upstream:\n{}\nours:\n{}", around(&theirs), around(&ours)))
}
