//! `voting`: counts votes over gRPC, and serves the results over HTTP/1. A version may fail every Nth vote by its own
//! count, so that a check knows the exact number of failures.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use anyhow::Result;
use http::{HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use tonic::{Code, Status, metadata::MetadataMap};
use tower::service_fn;

use super::{
    VERSION_HEADER,
    proto::{self, VoteReply, VoteRequest},
    server::{Protocol, Reply, Servers, json, not_found, text},
};

/// Limit of counted names; web asks emoji first, so there are never more than it has.
const NAMES: usize = 1000;

/// Arguments of `voting`.
#[derive(Debug, clap::Args)]
pub struct VotingArgs {
    /// gRPC port.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// HTTP/1 port.
    #[arg(long, default_value_t = 8081)]
    http_port: u16,
    /// Version to report.
    #[arg(long, default_value = "v1")]
    app_version: HeaderValue,
    /// Fail every Nth vote; 0 fails none.
    #[arg(long, default_value_t = 0)]
    fail_every: u64,
}

struct Votes {
    version: HeaderValue,
    fail_every: u64,
    calls: AtomicU64,
    counts: Mutex<BTreeMap<String, u64>>,
}

pub(super) async fn run(args: VotingArgs) -> Result<()> {
    let votes = Arc::new(Votes {
        version: args.app_version,
        fail_every: args.fail_every,
        calls: AtomicU64::new(0),
        counts: Mutex::default(),
    });
    let servers = Servers::new();
    let grpc = Arc::clone(&votes);
    servers
        .serve(args.port, Protocol::Grpc, move |request| {
            Arc::clone(&grpc).vote(request)
        })
        .await?;
    let http = move |request: Request<Incoming>| std::future::ready(votes.results(&request));
    servers.serve(args.http_port, Protocol::Http1, http).await?;
    servers.finish().await
}

impl Votes {
    async fn vote(self: Arc<Self>, request: Request<Incoming>) -> Reply {
        if request.uri().path() != proto::VOTE {
            return Status::unimplemented(format!("no method {}", request.uri().path())).into_http();
        }
        let vote = service_fn(|request: tonic::Request<VoteRequest>| {
            let result = self.count(request.into_inner());
            async { result }
        });
        proto::answer(request, vote).await
    }

    fn count(&self, vote: VoteRequest) -> Result<tonic::Response<VoteReply>, Status> {
        let call = self.calls.fetch_add(1, Relaxed) + 1;
        if self.fail_every != 0 && call.is_multiple_of(self.fail_every) {
            let mut metadata = MetadataMap::new();
            let version = self
                .version
                .as_bytes()
                .try_into()
                .map_err(|_| Status::internal("invalid version"))?;
            metadata.insert(VERSION_HEADER, version);
            return Err(Status::with_metadata(
                Code::Internal,
                "this version loses votes",
                metadata,
            ));
        }
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= NAMES && !counts.contains_key(&vote.shortcode) {
            return Err(Status::resource_exhausted("too many names"));
        }
        let votes = counts.entry(vote.shortcode).or_default();
        *votes += 1;
        let version = String::from_utf8_lossy(self.version.as_bytes()).into_owned();
        Ok(tonic::Response::new(VoteReply {
            version,
            votes: *votes,
            note: vote.note,
        }))
    }

    fn results(&self, request: &Request<Incoming>) -> Reply {
        match request.uri().path() {
            "/ready" => text(StatusCode::OK, "text/plain", "ready\n"),
            "/results" => {
                let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let mut reply = json(StatusCode::OK, &serde_json::json!({ "results": counts }));
                reply.headers_mut().insert(VERSION_HEADER, self.version.clone());
                reply
            }
            _ => not_found(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_nth_vote_fails_and_names_its_version() {
        let votes = Votes {
            version: HeaderValue::from_static("v2"),
            fail_every: 4,
            calls: AtomicU64::new(0),
            counts: Mutex::default(),
        };
        let vote = || {
            votes.count(VoteRequest {
                shortcode: ":crab:".into(),
                note: b"x".to_vec(),
            })
        };
        let results: Vec<_> = (0..12).map(|_| vote()).collect();
        let failed: Vec<_> = (0..12).filter(|i| results[*i].is_err()).collect();
        assert_eq!(failed, [3, 7, 11]);
        let status = results[3].as_ref().expect_err("the fourth");
        assert_eq!(
            status.metadata().get(VERSION_HEADER).map(|v| v.as_bytes()),
            Some(&b"v2"[..])
        );
        let reply = results[10].as_ref().expect("a vote").get_ref();
        assert_eq!((reply.votes, reply.note.as_slice()), (9, &b"x"[..]));
    }
}
