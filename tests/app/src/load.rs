//! Load: requests at a fixed rate over kept and over new connections, with a count of each kind of outcome.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::LocalSet, time::Instant};

use crate::client::println;

/// Longest time for one request; a longer one is a failure.
const REQUEST: Duration = Duration::from_secs(10);

/// Answers recorded individually: one minute at a thousand per second. Later ones are only counted.
const RECORDED: usize = 60_000;

/// Load parameters.
#[derive(clap::Args, Clone)]
pub(crate) struct Args {
    /// `host:port`.
    target: String,
    /// Path.
    #[arg(long, default_value = "/")]
    path: String,
    /// Clients that keep their connection.
    #[arg(long, default_value_t = 4)]
    kept: u32,
    /// Clients that open a connection for each request.
    #[arg(long, default_value_t = 1)]
    fresh: u32,
    /// Clients that call only every 20 seconds, with a connection of their own.
    #[arg(long, default_value_t = 0)]
    rare: u32,
    /// Requests per second of each client that is not rare.
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// Seconds.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Total number of requests after which the load ends early; 0 means unlimited.
    #[arg(long, default_value_t = 0)]
    requests: u64,
    /// POST with a small body instead of GET.
    #[arg(long)]
    post: bool,
    /// Header of each request, as `name: value`.
    #[arg(long)]
    header: Option<String>,
    /// Print start, end and server of each request.
    #[arg(long)]
    record: bool,
}

/// Outcome of the requests.
#[derive(Default)]
struct Outcome {
    requests: u64,
    failures: u64,
    reasons: BTreeMap<String, u64>,
    pods: BTreeMap<String, u64>,
    /// First and last answer of each pod, in milliseconds since the epoch.
    seen_ms: BTreeMap<String, (u64, u64)>,
    /// Client identities as seen by the servers; empty if none.
    identities: BTreeMap<String, u64>,
    max_ms: u128,
    /// Start and end of requests, in milliseconds since the epoch, and the pod that answered.
    answers: Vec<(f64, f64, String)>,
    /// Answers that were not recorded, because there were too many.
    unrecorded: u64,
}

/// Runs the load and prints the counts as JSON.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let outcome = Rc::new(RefCell::new(Outcome::default()));
    let clients = LocalSet::new();
    let end = Instant::now() + Duration::from_secs_f64(args.seconds);
    for (count, kept, every) in [
        (args.kept, true, Duration::from_secs_f64(1.0 / args.rate)),
        (args.fresh, false, Duration::from_secs_f64(1.0 / args.rate)),
        (args.rare, true, Duration::from_secs(20)),
    ] {
        for number in 0..count {
            // Not all at the same moment.
            let first = Instant::now() + every.mul_f64(f64::from(number) / f64::from(count));
            clients.spawn_local(client(args.clone(), kept, (first, every), (end, Rc::clone(&outcome))));
        }
    }
    clients.await;
    let outcome = outcome.borrow();
    println(&serde_json::json!({
        "requests": outcome.requests,
        "failures": outcome.failures,
        "reasons": outcome.reasons,
        "pods": outcome.pods,
        "seen_ms": outcome.seen_ms,
        "identities": outcome.identities,
        "max_ms": outcome.max_ms,
        "answers": outcome.answers,
        "unrecorded": outcome.unrecorded,
    }));
    Ok(())
}

async fn client(
    args: Args,
    kept: bool,
    (mut next, every): (Instant, Duration),
    (end, outcome): (Instant, Rc<RefCell<Outcome>>),
) {
    let mut connection = None;
    let is_enough = || args.requests > 0 && outcome.borrow().requests >= args.requests;
    // A client that cannot keep the rate makes fewer requests; the load does not get longer.
    while next.max(Instant::now()) < end && !is_enough() {
        tokio::time::sleep_until(next).await;
        next += every;
        if !kept {
            connection = None;
        }
        let (started, began) = (Instant::now(), now_ms());
        let result = tokio::time::timeout(REQUEST, request(&args, &mut connection)).await;
        let result = result.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in {REQUEST:?}")));
        let mut outcome = outcome.borrow_mut();
        outcome.requests += 1;
        outcome.max_ms = outcome.max_ms.max(started.elapsed().as_millis());
        match result {
            Ok(answer) => {
                let ended = now_ms();
                let now = ended as u64;
                outcome.seen_ms.entry(answer.pod.clone()).or_insert((now, now)).1 = now;
                if args.record && outcome.answers.len() < RECORDED {
                    outcome.answers.push((began, ended, answer.pod.clone()));
                } else if args.record {
                    outcome.unrecorded += 1;
                }
                *outcome.pods.entry(answer.pod).or_default() += 1;
                *outcome.identities.entry(answer.identity).or_default() += 1;
            }
            Err(error) => {
                connection = None;
                outcome.failures += 1;
                let reasons = outcome.reasons.len();
                let reason = if reasons < 20 {
                    format!("{error:#}")
                } else {
                    "others".to_owned()
                };
                *outcome.reasons.entry(reason).or_default() += 1;
            }
        }
    }
}

/// The pod that answered, and the client identity it saw.
struct Answer {
    pod: String,
    identity: String,
}

fn now_ms() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64() * 1e3)
}

async fn request(args: &Args, connection: &mut Option<SendRequest<Full<Bytes>>>) -> anyhow::Result<Answer> {
    // A server may close a kept connection between requests, but the test application never does: the
    // connection is to the local sidecar, so only one that announced its end is reopened.
    if connection.as_ref().is_none_or(|c| c.is_closed()) {
        let stream = TcpStream::connect(&args.target).await.context("connect")?;
        let (sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(driver);
        *connection = Some(sender);
    }
    let sender = connection.as_mut().expect("opened above");
    let (method, body) = if args.post {
        ("POST", Full::from("ping"))
    } else {
        ("GET", Full::default())
    };
    let mut request = Request::builder()
        .method(method)
        .uri(&args.path)
        .header("host", &args.target);
    if let Some((name, value)) = args.header.as_ref().and_then(|header| header.split_once(':')) {
        request = request.header(name, value.trim());
    }
    let request = request.body(body)?;
    sender.ready().await.context("ready")?;
    let response = sender.send_request(request).await.context("send")?;
    let (head, body) = response.into_parts();
    let body = body.collect().await.context("body")?.to_bytes();
    if !head.status.is_success() {
        let why = head
            .headers
            .get("l5d-proxy-error")
            .and_then(|v| v.to_str().ok())
            .unwrap_or("");
        anyhow::bail!("status {} {why}", head.status.as_u16());
    }
    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let headers = answer["headers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let identity = headers.iter().find(|header| header[0] == "l5d-client-id");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    Ok(Answer {
        pod: text(&answer["pod"]),
        identity: identity.map(|header| text(&header[1])).unwrap_or_default(),
    })
}
