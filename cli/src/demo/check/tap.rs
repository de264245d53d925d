//! Asserts that a tap shows a request with method, path, status, latency and both identities.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http_body_util::BodyExt;
use viz_api::{Kind, Problem, Resource, TapEvent, TapRequest};

use super::{Check, edges::identity};
use crate::demo::NAMESPACE;

/// Time limit for the tap to show the request.
const SHOWN: Duration = Duration::from_secs(10);
/// Unique query, so that it cannot be another request.
const PATH: &str = "/api/vote?choice=:ghost:&seen=by-tap";

/// Request as seen at one side of one proxy.
#[derive(Default)]
struct TappedRequest {
    method: Option<String>,
    status: Option<u16>,
    latency_us: Option<u64>,
    ended: bool,
    client: Option<String>,
    server: Option<String>,
}

pub(super) fn shows_a_request(check: &Check<'_>) -> Result<String> {
    let mut request = TapRequest::new(Resource::named(Kind::Deployment, "web"));
    request.namespace = Some(NAMESPACE.to_owned());
    request.path = Some(PATH.to_owned());
    // The outbound side knows the server's identity, the inbound side the client's.
    let inbound = watch(check, request)?;
    let mut request = TapRequest::new(Resource::named(Kind::Deployment, "traffic"));
    request.namespace = Some(NAMESPACE.to_owned());
    request.path = Some(PATH.to_owned());
    let outbound = watch(check, request)?;
    let client = inbound.client.context("the tap of web lacks the client's identity")?;
    let server = outbound
        .server
        .context("the tap of traffic lacks the server's identity")?;
    ensure!(client == identity("traffic"), "unexpected client {client:?}");
    ensure!(server == identity("web"), "unexpected server {server:?}");
    let method = inbound.method.context("no method")?;
    let (status, latency) = (
        inbound.status.context("no status")?,
        inbound.latency_us.context("no latency")?,
    );
    Ok(format!(
        "{method} {PATH} :status={status} latency={latency}µs client={client} server={server}"
    ))
}

/// Taps and sends requests until one is seen to its end.
fn watch(check: &Check<'_>, request: TapRequest) -> Result<TappedRequest> {
    let mut body = check.runtime.block_on(check.api.open(viz_api::TAP, &request))?;
    let traffic = check.runner("traffic")?;
    std::thread::scope(|scope| {
        let load = scope.spawn(move || traffic.load(PATH, &["--requests", "20", "--rps", "10", "--connections", "1"]));
        let seen = check.runtime.block_on(async {
            let mut lines = Vec::new();
            let mut seen = TappedRequest::default();
            let reading = async {
                while !seen.ended {
                    let frame = body.frame().await.context("the tap was closed")??;
                    lines.extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..]));
                    while let Some(end) = lines.iter().position(|byte| *byte == b'\n') {
                        let line: Vec<u8> = lines.drain(..=end).collect();
                        seen.record(&line)?;
                    }
                }
                anyhow::Ok(())
            };
            tokio::time::timeout(SHOWN, reading)
                .await
                .context("timed out waiting for the tap")??;
            anyhow::Ok(seen)
        });
        match load.join() {
            Ok(Ok(_)) => seen,
            Ok(Err(error)) => Err(error),
            Err(_) => bail!("the load panicked"),
        }
    })
}

impl TappedRequest {
    fn record(&mut self, line: &[u8]) -> Result<()> {
        if let Ok(problem) = serde_json::from_slice::<Problem>(line) {
            bail!(problem.error);
        }
        let event: TapEvent = serde_json::from_slice(line)?;
        let label = |peer: &Option<viz_api::tap::Peer>, key: &str| peer.as_ref()?.metadata.get(key).cloned();
        self.client = label(&event.source, "client_id").or(self.client.take());
        self.server = label(&event.destination, "server_id").or(self.server.take());
        if let Some(init) = &event.request_init_event {
            ensure!(init.path == PATH, "unexpected request for {}", init.path);
            self.method = Some(init.method.clone());
        }
        if let Some(init) = &event.response_init_event {
            self.status = Some(init.http_status);
            self.latency_us = Some(init.since_request_init / 1000);
        }
        // The first events of a tap may belong to an earlier request.
        self.ended = event.response_end_event.is_some() && self.method.is_some() && self.status.is_some();
        Ok(())
    }
}
