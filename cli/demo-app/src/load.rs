//! `load`: a fixed number of requests over a few connections, without retries, to compare with the proxies' counters.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::{net::TcpStream, task::LocalSet};

use super::VERSION_HEADER;

/// Time limit for one request.
const REQUEST: Duration = Duration::from_secs(10);

/// Arguments of `load`.
#[derive(Debug, clap::Args)]
pub struct LoadArgs {
    /// URL with path and query.
    url: String,
    /// Number of requests; a maximum with --seconds.
    #[arg(long, default_value_t = 10_000)]
    requests: u64,
    /// Stop after this time.
    #[arg(long)]
    seconds: Option<f64>,
    /// Number of connections, each with one request at a time.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Requests per second over all connections; unlimited by default.
    #[arg(long)]
    rps: Option<f64>,
    /// Request body; makes the requests POST.
    #[arg(long)]
    body: Option<String>,
}

/// Counts of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All requests.
    pub requests: u64,
    /// Requests without a response, or with status 500 or higher.
    pub failures: u64,
    /// Start of the last request, in milliseconds of Unix time.
    pub last_began_ms: u64,
}

/// Result of a load.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadReport {
    /// Counts of all requests.
    pub total: Counts,
    /// Requests without a response; they are failures too.
    pub unanswered: u64,
    /// Error of the first of those.
    pub first_error: Option<String>,
    /// Counts by version; empty if the response does not name it.
    pub versions: BTreeMap<String, Counts>,
    /// Counts by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Duration.
    pub seconds: f64,
    /// Median latency, in microseconds.
    pub p50_us: u64,
    /// 99th percentile of latency, in microseconds.
    pub p99_us: u64,
}

/// Returns Unix time in milliseconds.
pub fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis() as u64
}

pub(super) async fn run(args: LoadArgs) -> Result<()> {
    let load = Rc::new(Load::new(args)?);
    let local = LocalSet::new();
    for _ in 0..load.args.connections.max(1) {
        local.spawn_local(Rc::clone(&load).worker());
    }
    local.await;
    let mut report = load.report.borrow().clone();
    report.seconds = load.began.elapsed().as_secs_f64();
    let latencies = load.latencies.borrow();
    report.p50_us = latencies.value_at_quantile(0.5);
    report.p99_us = latencies.value_at_quantile(0.99);
    crate::print(&report)
}

struct Load {
    authority: String,
    path: String,
    began: Instant,
    /// Number of started requests.
    sent: Cell<u64>,
    report: RefCell<LoadReport>,
    latencies: RefCell<Histogram<u64>>,
    args: LoadArgs,
}

impl Load {
    fn new(args: LoadArgs) -> Result<Self> {
        let uri: Uri = args
            .url
            .parse()
            .with_context(|| format!("invalid URL {:?}", args.url))?;
        let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            bail!("invalid URL {:?}: expected http://", args.url);
        };
        let authority = authority.as_str().to_owned();
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let latencies = Histogram::new_with_bounds(1, 60_000_000, 3)
            .expect("sensible bounds")
            .into();
        Ok(Self {
            authority,
            path,
            began: Instant::now(),
            sent: Cell::new(0),
            report: RefCell::default(),
            latencies,
            args,
        })
    }

    async fn worker(self: Rc<Self>) {
        let mut connection = None;
        while self.take_turn().await {
            let began_ms = now_ms();
            let began = Instant::now();
            let result = tokio::time::timeout(REQUEST, self.exchange(&mut connection)).await;
            let result = result.unwrap_or_else(|_| bail!("timed out after {REQUEST:?}"));
            if result.is_err() {
                connection = None;
            } else {
                self.latencies
                    .borrow_mut()
                    .saturating_record(began.elapsed().as_micros() as u64);
            }
            self.count(began_ms, result);
        }
    }

    /// Waits until the next request is due. Returns false when there are no more.
    async fn take_turn(&self) -> bool {
        let turn = self.sent.get();
        let over = || {
            self.args
                .seconds
                .is_some_and(|s| self.began.elapsed().as_secs_f64() >= s)
        };
        if turn >= self.args.requests || over() {
            return false;
        }
        self.sent.set(turn + 1);
        if let Some(rps) = self.args.rps.filter(|rps| *rps > 0.0) {
            tokio::time::sleep_until((self.began + Duration::from_secs_f64(turn as f64 / rps)).into()).await;
        }
        !over()
    }

    async fn exchange(&self, connection: &mut Option<SendRequest<Full<Bytes>>>) -> Result<(u16, String)> {
        let mut sender = match connection.take().filter(|c| !c.is_closed()) {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        sender.ready().await?;
        let request = match &self.args.body {
            Some(body) => Request::post(&self.path).body(Full::new(Bytes::from(body.clone()))),
            None => Request::get(&self.path).body(Full::default()),
        };
        let mut request = request?;
        request
            .headers_mut()
            .insert(http::header::HOST, self.authority.parse()?);
        let response: Response<Incoming> = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let version = response
            .headers()
            .get(VERSION_HEADER)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        response.into_body().collect().await?;
        *connection = Some(sender);
        Ok((status, version))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let has_port = self.authority.rsplit_once(':').is_some();
        let target = if has_port {
            self.authority.clone()
        } else {
            format!("{}:80", self.authority)
        };
        let stream = TcpStream::connect(&target)
            .await
            .with_context(|| format!("cannot connect to {target}"))?;
        stream.set_nodelay(true)?;
        let (sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(async move { drop(driver.await) });
        Ok(sender)
    }

    fn count(&self, began_ms: u64, result: Result<(u16, String)>) {
        let mut report = self.report.borrow_mut();
        let (status, version) = match result {
            Ok((status, version)) => {
                *report.statuses.entry(status).or_default() += 1;
                (status, version)
            }
            Err(error) => {
                report.unanswered += 1;
                report.first_error.get_or_insert_with(|| format!("{error:#}"));
                (599, String::new())
            }
        };
        let report = &mut *report;
        for counts in [&mut report.total, report.versions.entry(version).or_default()] {
            counts.requests += 1;
            counts.failures += u64::from(status >= 500);
            counts.last_began_ms = counts.last_began_ms.max(began_ms);
        }
    }
}
