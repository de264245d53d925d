//! `web`: HTTP/1 frontend; calls emoji and voting.

use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::json;
use tonic::{Status, transport::Channel};

use super::{
    VERSION_HEADER,
    proto::{self, FindReply, FindRequest, ListReply, ListRequest, VoteReply, VoteRequest},
    server::{Protocol, Reply, Servers, json, not_found, text},
};

/// Maximum body size of a request or of voting's response.
const BODY_BYTES: usize = 64 * 1024;

/// Arguments of `web`.
#[derive(Debug, clap::Args)]
pub struct WebArgs {
    /// HTTP/1 port.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// gRPC URL of emoji.
    #[arg(long, default_value = "http://emoji:8080")]
    emoji: String,
    /// gRPC URL of voting.
    #[arg(long, default_value = "http://voting:8080")]
    voting: String,
    /// HTTP/1 URL of voting.
    #[arg(long, default_value = "http://voting:8081")]
    voting_http: String,
}

struct Web {
    emoji: Channel,
    voting: Channel,
    voting_http: String,
    http: Client<HttpConnector, Empty<Bytes>>,
}

pub(super) async fn run(args: WebArgs) -> Result<()> {
    let web = Arc::new(Web {
        emoji: proto::channel(&args.emoji)?,
        voting: proto::channel(&args.voting)?,
        voting_http: args.voting_http,
        http: Client::builder(TokioExecutor::new()).build(HttpConnector::new()),
    });
    let servers = Servers::new();
    servers
        .serve(args.port, Protocol::Http1, move |request| {
            Arc::clone(&web).serve(request)
        })
        .await?;
    servers.finish().await
}

impl Web {
    async fn serve(self: Arc<Self>, request: Request<Incoming>) -> Reply {
        let result = match request.uri().path() {
            "/" => self.page().await,
            "/ready" => return text(StatusCode::OK, "text/plain", "ready\n"),
            "/api/list" => self.list().await,
            "/api/vote" => self.vote(request).await,
            "/api/results" => self.results().await,
            _ => return not_found(),
        };
        result.unwrap_or_else(|status| failed(&status))
    }

    async fn emoji(&self) -> Result<ListReply, Status> {
        proto::call(&self.emoji, proto::LIST, ListRequest {}).await
    }

    async fn list(&self) -> Result<Reply, Status> {
        let list = self.emoji().await?.emoji;
        let list: Vec<_> = list
            .into_iter()
            .map(|e| json!({ "shortcode": e.shortcode, "unicode": e.unicode }))
            .collect();
        Ok(json(StatusCode::OK, &json!(list)))
    }

    async fn page(&self) -> Result<Reply, Status> {
        let link = |e: proto::Emoji| format!("<a href=\"/api/vote?choice={}\">{}</a>\n", e.shortcode, e.unicode);
        let links: Vec<String> = self.emoji().await?.emoji.into_iter().map(link).collect();
        let page = format!(
            "<!doctype html><meta charset=\"utf-8\"><title>Vote</title>\n<h1>Vote</h1>\n{}",
            links.concat()
        );
        Ok(text(StatusCode::OK, "text/html", page))
    }

    /// Votes. The request body is echoed through voting.
    async fn vote(&self, request: Request<Incoming>) -> Result<Reply, Status> {
        let pairs = request.uri().query().unwrap_or_default().split('&');
        let choice = pairs
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == "choice");
        let Some((_, choice)) = choice else {
            return Ok(json(
                StatusCode::BAD_REQUEST,
                &json!({ "error": "missing query parameter: ?choice=:crab:" }),
            ));
        };
        let shortcode = choice.replace("%3A", ":").replace("%3a", ":");
        let note = Limited::new(request.into_body(), BODY_BYTES).collect().await;
        let note = note
            .map_err(|e| Status::invalid_argument(e.to_string()))?
            .to_bytes()
            .to_vec();
        let found: FindReply = proto::call(
            &self.emoji,
            proto::FIND,
            FindRequest {
                shortcode: shortcode.clone(),
            },
        )
        .await?;
        let Some(emoji) = found.emoji else {
            return Ok(json(
                StatusCode::NOT_FOUND,
                &json!({ "error": format!("unknown emoji {shortcode}") }),
            ));
        };
        let vote: VoteReply = proto::call(&self.voting, proto::VOTE, VoteRequest { shortcode, note }).await?;
        let note = String::from_utf8_lossy(&vote.note);
        let body = json!({ "choice": emoji.unicode, "votes": vote.votes, "version": vote.version, "note": note });
        let mut reply = json(StatusCode::OK, &body);
        set_version(&mut reply, vote.version.as_bytes());
        Ok(reply)
    }

    async fn results(&self) -> Result<Reply, Status> {
        let request = Request::get(format!("{}/results", self.voting_http)).body(Empty::new());
        let request = request.map_err(|e| Status::internal(e.to_string()))?;
        let response = self
            .http
            .request(request)
            .await
            .map_err(|e| Status::unavailable(e.to_string()))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, BODY_BYTES)
            .collect()
            .await
            .map_err(|e| Status::unavailable(e.to_string()))?;
        let mut reply = text(head.status, "application/json", body.to_bytes());
        if let Some(version) = head.headers.get(VERSION_HEADER) {
            reply.headers_mut().insert(VERSION_HEADER, version.clone());
        }
        Ok(reply)
    }
}

/// Converts a failed call to a failed request that still names the version.
fn failed(status: &Status) -> Reply {
    let mut reply = json(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "error": status.message() }));
    if let Some(version) = status.metadata().get(VERSION_HEADER) {
        set_version(&mut reply, version.as_bytes());
    }
    reply
}

fn set_version(reply: &mut Reply, version: &[u8]) {
    if let Ok(version) = HeaderValue::from_bytes(version) {
        reply.headers_mut().insert(VERSION_HEADER, version);
    }
}
