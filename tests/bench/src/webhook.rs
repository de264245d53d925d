//! Time that the admission webhook adds to the creation of a pod: mesh-injector over TLS on one HTTP/2 connection, like
//! that of an API server, with one review after the other.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use clap::Parser as _;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
use serde::Serialize;
use tests_harness::cluster::webhook::{self, NAME, Webhooks};
use tokio::{net::TcpStream, time::sleep};
use tokio_rustls::TlsConnector;

use crate::usage::Cpu;

/// Reviews of the warm-up.
const WARM: usize = 50;
/// Timeout of the first answer.
const START: Duration = Duration::from_secs(10);
/// Targets: median, p99 and CPU time of a review, in milliseconds.
pub(crate) const PROMISED: [f64; 3] = [4.0, 15.0, 1.0];

/// Measure mesh-injector, one review after the other.
#[derive(Debug, clap::Parser)]
pub(crate) struct Args {
    /// Number of reviews
    #[arg(long, default_value_t = 3_000)]
    reviews: usize,
    /// Path of mesh-injector; defaults to the one beside this program
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// Write the result as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if a figure misses its target
    #[arg(long)]
    check: bool,
}

/// Cost of a review, in milliseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    reviews: usize,
    pub(crate) median_ms: f64,
    pub(crate) p99_ms: f64,
    max_ms: f64,
    pub(crate) cpu_ms: f64,
    rss_mib: f64,
}

/// Runs the measurement.
pub(crate) fn run(args: &Args) -> Result<()> {
    let measured = measured(args)?;
    println(&measured.line());
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&measured)?;
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let figures = [measured.median_ms, measured.p99_ms, measured.cpu_ms];
    let kept = figures.iter().zip(PROMISED).all(|(figure, most)| *figure <= most);
    ensure!(!args.check || kept, "a review costs more than promised");
    Ok(())
}

/// Default options.
pub(crate) fn standard() -> Result<Measured> {
    measured(&Args::parse_from(["webhook"]))
}

fn measured(args: &Args) -> Result<Measured> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(args))
}

#[expect(clippy::print_stdout, reason = "the result of the program")]
fn println(text: &str) {
    println!("{text}");
}

impl Measured {
    fn line(&self) -> String {
        let [median, p99, cpu] = PROMISED;
        format!(
            "webhook, {} pods: median {:.2} ms (≤ {median}), p99 {:.2} ms (≤ {p99}), max {:.2} ms, CPU {:.2} ms (≤ {cpu}), \
             RSS {:.1} MiB",
            self.reviews, self.median_ms, self.p99_ms, self.max_ms, self.cpu_ms, self.rss_mib
        )
    }
}

async fn measure(args: &Args) -> Result<Measured> {
    let path = match &args.program {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("mesh-injector"),
    };
    let program = Webhooks::start(Command::new(path))?;
    let mut send = connect(program.addr, program.certificate.clone().into()).await?;
    let review = Bytes::from(serde_json::to_vec(&webhook::review())?);
    for _ in 0..WARM {
        ask(&mut send, review.clone()).await?;
    }
    let mut latencies = hdrhistogram::Histogram::<u64>::new(3)?;
    let before = Cpu::read(program.pid())?;
    for _ in 0..args.reviews {
        let began = Instant::now();
        ask(&mut send, review.clone()).await?;
        latencies.record(began.elapsed().as_micros() as u64)?;
    }
    let cpu = Cpu::read(program.pid())?.each(before, args.reviews as u64);
    let at = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1e3;
    Ok(Measured {
        reviews: args.reviews,
        median_ms: at(0.5),
        p99_ms: at(0.99),
        max_ms: at(1.0),
        cpu_ms: cpu.total_us() / 1e3,
        rss_mib: resident_mib(program.pid())?,
    })
}

type Send = SendRequest<Full<Bytes>>;

async fn connect(addr: SocketAddr, certificate: CertificateDer<'static>) -> Result<Send> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let began = Instant::now();
    loop {
        let tried = async {
            let socket = TcpStream::connect(addr).await?;
            socket.set_nodelay(true)?;
            connector
                .connect(NAME.try_into()?, socket)
                .await
                .map_err(anyhow::Error::new)
        };
        match tried.await {
            Ok(stream) => {
                let (send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                return Ok(send);
            }
            Err(error) if began.elapsed() > START => return Err(error.context("mesh-injector does not answer")),
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Sends a review and checks that the answer is a patch.
async fn ask(send: &mut Send, review: Bytes) -> Result<()> {
    let request = Request::post(format!("https://{NAME}/?timeout=10s"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(review))?;
    let response = send.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if status != StatusCode::OK || !body.windows(9).any(|part| part == b"JSONPatch") {
        bail!("no patch: {status} {}", String::from_utf8_lossy(&body));
    }
    Ok(())
}

/// Resident memory of a process.
fn resident_mib(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = text.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?
            .trim()
            .strip_suffix(" kB")?
            .parse::<f64>()
            .ok()
    });
    Ok(kib.context("/proc/PID/status has no VmRSS")? / 1_024.0)
}
