//! Attacks on the control plane by requests that are well formed and too many, too long or too deep.

use std::time::Duration;

use anyhow::Result;
use prost::Message as _;
use proxy_api::{DestinationRequest, InboundRequest, encode};
use serde_json::json;
use tests_harness::{
    client::Client,
    cluster::{objects::NAMESPACE, webhook},
};
use tokio::{
    io::AsyncWriteExt as _,
    time::{Instant, sleep, timeout},
};

use crate::{
    control_plane::certify_request,
    raw::{
        Io,
        http2::{END_STREAM, Http2, fields, kind},
    },
    target::{Listener, Target},
};

const FLOOD: Duration = Duration::from_secs(4);
const LAST: Duration = Duration::from_secs(1);

fn path(listener: Listener) -> &'static str {
    match listener {
        Listener::Policy => "/io.linkerd.proxy.inbound.InboundServerPolicies/WatchPort",
        Listener::Identity => "/io.linkerd.proxy.identity.Identity/Certify",
        _ => "/io.linkerd.proxy.destination.Destination/Get",
    }
}

fn call(path: &str) -> Vec<(&str, &str)> {
    let grpc = [("content-type", "application/grpc"), ("te", "trailers")];
    fields("POST", path).into_iter().chain(grpc).collect()
}

fn message(bytes: &[u8]) -> Vec<u8> {
    [&[0][..], &(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

/// Requests whose messages do not end, in as many streams as the server takes.
pub(super) async fn unfinished(target: &Target) -> Result<String> {
    let fields = call(path(target.listener));
    let (mut opened, mut said, mut held) = (0, String::new(), Vec::new());
    let until = Instant::now() + FLOOD;
    while opened < 4_096 && Instant::now() < until {
        let Ok(io) = target.stream().await else { break };
        let mut connection = Http2::open(io, &[]).await?;
        for _ in 0..100 {
            let Ok(stream) = connection.request(&fields, 0).await else {
                break;
            };
            let begun = [&[0][..], &100_000_u32.to_be_bytes(), &[b'a'; 600]].concat();
            if connection.frame(kind::DATA, 0, stream, &begun).await.is_err() {
                break;
            }
            opened += 1;
        }
        let _ = connection.flush().await;
        said = connection.drain(Duration::from_millis(50)).await.to_string();
        held.push(connection);
    }
    sleep(LAST).await;
    Ok(format!("{opened} streams in {} connections; {said}", held.len()))
}

pub(super) async fn watches(target: &Target) -> Result<String> {
    let question = |number: u32| {
        let request = InboundRequest {
            workload: format!(r#"{{"ns":"{NAMESPACE}","pod":"web-{}"}}"#, number % 50),
            port: 1 + (number / 50) as u16,
        };
        encode::port_spec(&request).encode_to_vec()
    };
    streams(target, question).await
}

pub(super) async fn lookups(target: &Target) -> Result<String> {
    let question = |number: u32| {
        let request = DestinationRequest {
            path: format!("web.{NAMESPACE}.svc.cluster.local:{}", 1 + number % 60_000),
            context: format!(
                r#"{{"ns":"{NAMESPACE}","pod":"{number}","nodeName":"{}"}}"#,
                "n".repeat(200)
            ),
        };
        encode::get_destination(&request).encode_to_vec()
    };
    streams(target, question).await
}

/// Opens streams with different questions, none of which is ever closed.
async fn streams(target: &Target, question: impl Fn(u32) -> Vec<u8>) -> Result<String> {
    let fields = call(path(target.listener));
    let (mut opened, mut said, mut held) = (0, String::new(), Vec::new());
    let until = Instant::now() + FLOOD;
    while opened < 25_000 && Instant::now() < until {
        let Ok(io) = target.stream().await else { break };
        let Ok(mut connection) = Http2::open(io, &[]).await else {
            break;
        };
        for _ in 0..100 {
            let Ok(stream) = connection.request(&fields, 0).await else {
                break;
            };
            let body = message(&question(opened));
            if connection.frame(kind::DATA, END_STREAM, stream, &body).await.is_err() {
                break;
            }
            opened += 1;
        }
        let _ = connection.flush().await;
        said = connection.drain(Duration::from_millis(100)).await.to_string();
        held.push(connection);
    }
    sleep(LAST).await;
    Ok(format!("{opened} streams in {} connections; {said}", held.len()))
}

pub(super) async fn tokens(target: &Target) -> Result<String> {
    let until = Instant::now() + FLOOD;
    let fields = call(path(target.listener));
    let mut connection: Http2<Box<dyn Io>> = Http2::open(target.stream().await?, &[]).await?;
    let mut asked = 0;
    while Instant::now() < until {
        for _ in 0..20 {
            let body = message(&certify_request(&format!("forged {asked}"))?);
            let stream = connection.request(&fields, 0).await?;
            connection.frame(kind::DATA, END_STREAM, stream, &body).await?;
            asked += 1;
        }
        connection.flush().await?;
        let drained = connection.drain(Duration::from_millis(50)).await;
        if drained.is_closed {
            return Ok(format!("{asked} asked; {drained}"));
        }
    }
    Ok(format!("{asked} asked"))
}

/// Sends a body to the webhook on a connection of its own; returns the status.
async fn review(target: &Target, body: Vec<u8>) -> Result<u16> {
    let config = target.keys.config(&[b"http/1.1"])?;
    let session = target.keys.connect(target.connect().await?, &config).await?;
    let client = Client::http1_on(session, "injector").await;
    let mut client = client.map_err(|error| anyhow::anyhow!(error))?;
    let answer = timeout(FLOOD, client.post("/", body)).await?;
    Ok(answer.map_err(|error| anyhow::anyhow!(error))?.status.as_u16())
}

pub(super) async fn nested_json(target: &Target) -> Result<String> {
    let envelope = |object: &str| {
        format!(
            r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"u","kind":{{"group":"","version":"v1","kind":"Pod"}},"namespace":"shop","operation":"CREATE","object":{object}}}}}"#
        )
    };
    let deep = envelope(&["[".repeat(100_000), "]".repeat(100_000)].concat());
    let wide = envelope(&format!("[{}[0]]", "[0],".repeat(900_000)));
    let huge = envelope(&format!("\"{}\"", "a".repeat(8 << 20)));
    let mut said = Vec::new();
    for body in [deep, wide, huge] {
        let status = review(target, body.into_bytes()).await;
        said.push(status.map_or_else(|error| format!("{error:#}"), |status| status.to_string()));
    }
    Ok(said.join(", "))
}

pub(super) async fn unfinished_reviews(target: &Target) -> Result<String> {
    let (mut held, mut said) = (Vec::new(), String::new());
    for _ in 0..40 {
        let Ok(io) = target.stream().await else { break };
        let mut connection = Http2::open(io, &[]).await?;
        for _ in 0..16 {
            let Ok(stream) = connection.request(&fields("POST", "/"), 0).await else {
                break;
            };
            for _ in 0..4 {
                let _ = connection.frame(kind::DATA, 0, stream, &[b'['; 15_000]).await;
            }
        }
        let _ = connection.flush().await;
        said = connection.drain(Duration::from_millis(20)).await.to_string();
        held.push(connection);
    }
    sleep(LAST).await;
    let connections = held.len();
    for connection in held {
        let _ = connection.into_io().shutdown().await;
    }
    Ok(format!("{connections} connections; {said}"))
}

/// Reviews whose kinds and owners would be labels of metrics.
pub(super) async fn kinds(target: &Target) -> Result<String> {
    let until = Instant::now() + FLOOD;
    let mut sent = 0;
    while Instant::now() < until && sent < 300 {
        let mut review_of = webhook::review();
        let kind = format!("{sent}{}", "k".repeat(100_000));
        review_of["request"]["object"]["metadata"]["ownerReferences"][0]["kind"] = json!(kind);
        review_of["request"]["object"]["metadata"]["namespace"] = json!(kind);
        review(target, serde_json::to_vec(&review_of)?).await?;
        sent += 1;
    }
    Ok(format!("{sent} reviews"))
}
