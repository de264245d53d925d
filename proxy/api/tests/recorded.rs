//! Recorded messages of upstream's control plane decode without loss: decoded, encoded again and compared as protobuf,
//! message by message, requests included.
//!
//! The recordings are outside the repository (`../shared/facts/wire` beside it). Where they are absent the test says so
//! and passes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use linkerd2_proxy_api::{destination, identity, inbound, outbound};
use prost::Message;
use proxy_api::{Result, decode, encode};
use serde_json::Value;

/// Requests that differ on purpose, with the difference.
const EXCEPTIONS: [(&str, &str); 3] = [
    // Both calls failed when they were recorded, too.
    ("plain/inbound_port_0.json", "invalid message: port: is 0"),
    ("plain/outbound_no_target.json", "invalid message: target: is missing"),
    // A name without a port means port 80, which the model adds.
    (
        "plain/outbound_authority_no_port.json",
        "recorded \"web.plain.svc.cluster.local\", ours \"web.plain.svc.cluster.local:80\"",
    ),
];

/// Calls whose recorded request is empty: tokens were left out of the recordings.
const WITHOUT_REQUEST: &str = "Identity.Certify";

/// Decodes, encodes again and compares; returns the difference, if any.
fn again<W, M>(bytes: &[u8], decode: impl Fn(W) -> Result<M>, encode: impl Fn(M) -> W) -> Option<String>
where
    W: Message + Default + Clone + PartialEq + std::fmt::Debug,
{
    compare(W::decode(bytes).expect("protobuf"), decode, encode)
}

fn compare<W, M>(recorded: W, decode: impl Fn(W) -> Result<M>, encode: impl Fn(M) -> W) -> Option<String>
where
    W: Clone + PartialEq + std::fmt::Debug,
{
    match decode(recorded.clone()).map(encode) {
        Ok(ours) if ours == recorded => None,
        Ok(ours) => Some(difference(&format!("{recorded:#?}"), &format!("{ours:#?}"))),
        Err(error) => Some(error.to_string()),
    }
}

fn message(rpc: &str, bytes: &[u8]) -> Option<String> {
    match rpc {
        "Destination.Get" => again(bytes, decode::update, |m| encode::update(&m)),
        "Destination.GetProfile" => again(bytes, decode::profile, |m| encode::profile(&m)),
        "OutboundPolicies.Watch" | "OutboundPolicies.Get" => {
            let mut recorded = outbound::OutboundPolicy::decode(bytes).expect("protobuf");
            fill_in_timeouts(&mut recorded);
            compare(recorded, decode::client_policy, |m| encode::client_policy(&m))
        }
        "InboundServerPolicies.WatchPort" | "InboundServerPolicies.GetPort" => {
            again(bytes, decode::server_policy, |m| encode::server_policy(&m))
        }
        "Identity.Certify" => again(bytes, decode::certified, encode::certified),
        other => panic!("no such call: {other}"),
    }
}

/// An exception in all client policies: upstream leaves the message `timeouts` out of its fallback for addresses
/// outside the cluster, and elsewhere sends it although it is empty. Both mean the same; we always send it.
fn fill_in_timeouts(policy: &mut outbound::OutboundPolicy) {
    use outbound::proxy_protocol::Kind;
    let http = match policy.protocol.as_mut().and_then(|protocol| protocol.kind.as_mut()) {
        Some(Kind::Detect(detect)) => {
            let http1 = detect.http1.iter_mut().flat_map(|http| &mut http.routes);
            http1
                .chain(detect.http2.iter_mut().flat_map(|http| &mut http.routes))
                .collect()
        }
        _ => Vec::new(),
    };
    for rule in http.into_iter().flat_map(|route| &mut route.rules) {
        rule.timeouts.get_or_insert_default();
    }
}

fn request(rpc: &str, bytes: &[u8]) -> Option<String> {
    match rpc.split_once('.').expect("service.method").0 {
        "Destination" => again(
            bytes,
            |wire: destination::GetDestination| Ok(decode::get_destination(wire)),
            |m| encode::get_destination(&m),
        ),
        "OutboundPolicies" => {
            again::<outbound::TrafficSpec, _>(bytes, decode::traffic_spec, |m| encode::traffic_spec(&m))
        }
        "InboundServerPolicies" => again::<inbound::PortSpec, _>(bytes, decode::port_spec, |m| encode::port_spec(&m)),
        "Identity" => again::<identity::CertifyRequest, _>(bytes, decode::certify_request, encode::certify_request),
        other => panic!("no such service: {other}"),
    }
}

fn recordings(dir: &Path) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for scenario in fs::read_dir(dir)
        .expect("recordings")
        .map(|entry| entry.expect("entry").path())
    {
        let Ok(files) = fs::read_dir(&scenario) else { continue };
        for file in files.map(|entry| entry.expect("entry").path()) {
            if file.extension().is_some_and(|extension| extension == "json") {
                let text = fs::read_to_string(&file).expect("recording");
                let value: Value = serde_json::from_str(&text).expect("JSON");
                if value.get("rpc").is_some() {
                    let name = file.strip_prefix(dir).expect("below").display().to_string();
                    found.push((name, value));
                }
            }
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

fn bytes(value: &Value) -> Vec<u8> {
    BASE64_STANDARD
        .decode(value.as_str().unwrap_or_default())
        .expect("base64")
}

/// The first lines in which two texts differ.
fn difference(a: &str, b: &str) -> String {
    let differing = a.lines().zip(b.lines()).filter(|(a, b)| a != b).take(5);
    let line = |(a, b): (&str, &str)| format!("recorded {} ours {}", a.trim(), b.trim());
    differing.map(line).collect::<Vec<_>>().join("; ")
}

#[test]
fn recorded_messages_survive_the_model() {
    let dir: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "..", "..", "shared", "facts", "wire"]
        .iter()
        .collect();
    if !dir.is_dir() {
        eprintln!("skipped: the recordings are not beside this repository");
        return;
    }
    let (mut messages, mut requests) = (0, 0);
    let mut wrong = Vec::new();
    for (name, recording) in recordings(&dir) {
        let rpc = recording["rpc"].as_str().expect("rpc");
        for (index, recorded) in recording["messages"].as_array().expect("messages").iter().enumerate() {
            messages += 1;
            if let Some(problem) = message(rpc, &bytes(&recorded["bytes"])) {
                wrong.push(format!("{name}[{index}]: {problem}"));
            }
        }
        if rpc == WITHOUT_REQUEST {
            continue;
        }
        requests += 1;
        let problem = request(rpc, &bytes(&recording["request_bytes"]));
        let expected = EXCEPTIONS
            .iter()
            .find(|(exception, _)| *exception == name)
            .map(|(_, said)| *said);
        let as_expected = match (&problem, expected) {
            (Some(problem), Some(said)) => problem.contains(said),
            (problem, said) => problem.is_none() && said.is_none(),
        };
        if !as_expected {
            wrong.push(format!(
                "{name} request: {}",
                problem.unwrap_or_else(|| "does not differ after all".to_owned())
            ));
        }
    }
    assert!(
        messages >= 400 && requests >= 400,
        "only {messages} messages and {requests} requests were found"
    );
    assert!(
        wrong.is_empty(),
        "{} of {messages} messages and {requests} requests:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
