//! Fixed exchange in one process for counting instructions, which unlike time are not noise on a shared machine.
//!
//! The outbound side, the inbound side, and the client with the application have a thread each, so that callgrind
//! separates their costs; everything is on loopback, and discovery is scripted. The difference to a run with fewer
//! requests excludes the start.

use std::{net::SocketAddr, num::NonZeroU16, rc::Rc, sync::mpsc, thread};

use anyhow::{Context as _, Result, ensure};
use proxy_discovery::Discovery;
use proxy_metrics::Metrics;
use proxy_model::{ClientAddr, OrigDstAddr, OutboundTarget, profile::Profile};
use proxy_tls::Tls;
use tests_harness::{Pki, certificates::identity, values};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::LocalOptions,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    backend,
    bare::{self, Accepts},
    load, proxy,
};

/// Run a fixed exchange in one process.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Requests in total
    #[arg(long, default_value_t = 2000)]
    requests: usize,
    /// Connections, with one request in flight on each over HTTP/1
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Use HTTP/2 with this number of streams per connection
    #[arg(long, value_name = "STREAMS", num_args = 0..=1, default_missing_value = "16")]
    http2: Option<usize>,
    /// Use the bare pair instead of the mesh
    #[arg(long)]
    bare: bool,
}

/// Request as `wrk` sends it.
const REQUEST: &[u8] = b"GET /bench HTTP/1.1\r\nHost: server.bench\r\n\r\n";

/// Runs the exchange; returns the number of correct responses.
#[expect(clippy::print_stdout, reason = "it is what this command is for")]
pub(crate) fn run(args: &Args) -> Result<()> {
    let pki = Pki::new();
    on_this_thread(async {
        let application = backend::start(([127, 0, 0, 1], 0).into())?;
        let (bare, http2, tls) = (args.bare, args.http2, bare::workload(&pki, "server")?);
        let inbound = start("inbound", move |listener| async move {
            match (bare, http2) {
                (false, _) => inbound(listener, application, tls).await,
                (true, None) => bare::serve_inbound(Accepts::alone(listener), application, tls).await,
                (true, Some(_)) => bare::http2::inbound(Accepts::alone(listener), application, tls).await,
            }
        })?;
        let tls = bare::workload(&pki, "client")?;
        let outbound = start("outbound", move |listener| async move {
            match (bare, http2) {
                (false, _) => outbound(listener, outbound_worker((inbound, application), tls, None)).await,
                (true, None) => bare::serve_outbound(Accepts::alone(listener), inbound, tls).await,
                (true, Some(_)) => bare::http2::outbound(Accepts::alone(listener), inbound, tls).await,
            }
        })?;
        let mut clients = JoinSet::new();
        let each = args.requests / args.connections;
        for _ in 0..args.connections {
            match args.http2 {
                None => clients.spawn_local(client(outbound, each)),
                Some(streams) => clients.spawn_local(load::http2_requests(outbound, streams, each / streams)),
            };
        }
        let mut answered = 0;
        while let Some(client) = clients.join_next().await {
            answered += client??;
        }
        println!("{answered} requests");
        Ok(())
    })
}

fn on_this_thread(task: impl Future<Output = Result<()>>) -> Result<()> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime
        .enable_all()
        .build_local(LocalOptions::default())?
        .block_on(task)
}

/// Serves on a new thread until the process ends.
fn start<F, S>(name: &str, serve: S) -> Result<SocketAddr>
where
    F: Future<Output = Result<()>>,
    S: FnOnce(TcpListener) -> F + Send + 'static,
{
    let (listening, address) = mpsc::channel();
    let serve = move || {
        let served = on_this_thread(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            listening.send(listener.local_addr()?)?;
            serve(listener).await
        });
        // The client sees that its answer is missing; there is no other way out.
        if let Err(error) = served {
            eprintln!("mesh-bench: {error:#}");
            std::process::exit(1);
        }
    };
    thread::Builder::new().name(name.to_owned()).spawn(serve)?;
    address.recv().context("a side did not start")
}

async fn inbound(listener: TcpListener, application: SocketAddr, tls: Tls) -> Result<()> {
    let here = listener.local_addr()?;
    let worker = inbound_worker(here, application, tls);
    let drain = CancellationToken::new();
    loop {
        let (socket, peer) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let connection = worker
            .clone()
            .serve(socket, OrigDstAddr(here), ClientAddr(peer), drain.clone());
        tokio::task::spawn_local(connection);
    }
}

fn inbound_worker(here: SocketAddr, application: SocketAddr, tls: Tls) -> Rc<proxy_inbound::Worker> {
    let (discovery, script) = Discovery::scripted();
    script.inbound(application.port(), values::all_unauthenticated());
    let metrics = Metrics::default();
    proxy_inbound::Worker::new(proxy_inbound::Deps {
        discovery,
        tls,
        metrics: metrics.recorder(),
        tap: Default::default(),
        rate_limits: Default::default(),
        config: proxy_inbound::Config {
            port: here.port(),
            ..Default::default()
        },
    })
}

async fn outbound(listener: TcpListener, worker: Rc<proxy_outbound::Worker>) -> Result<()> {
    let drain = CancellationToken::new();
    loop {
        let (socket, peer) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let target = OrigDstAddr(proxy::service_addr());
        let connection = worker.clone().serve(socket, target, ClientAddr(peer), drain.clone());
        tokio::task::spawn_local(connection);
    }
}

fn outbound_worker(
    (inbound, application): (SocketAddr, SocketAddr),
    tls: Tls,
    profile: Option<Profile>,
) -> Rc<proxy_outbound::Worker> {
    let (discovery, script) = Discovery::scripted();
    let mut endpoint = values::meshed(application, &identity("bench", "server"));
    endpoint.opaque_transport_port = NonZeroU16::new(inbound.port());
    script.endpoints(proxy::SERVICE_PATH, [endpoint]);
    let service = values::service("bench", "server", proxy::SERVICE_PORT);
    script.outbound(&OutboundTarget::Addr(proxy::service_addr()), service, profile);
    let metrics = Metrics::default();
    proxy_outbound::Worker::new(proxy_outbound::Deps {
        discovery,
        tls,
        metrics: metrics.recorder(),
        tap: Default::default(),
        budgets: Default::default(),
        breakers: Default::default(),
        config: Default::default(),
    })
}

/// Sends requests one after another over one connection.
async fn client(addr: SocketAddr, requests: usize) -> Result<usize> {
    let mut socket = TcpStream::connect(addr).await?;
    socket.set_nodelay(true)?;
    let mut answer = Vec::with_capacity(4096);
    for _ in 0..requests {
        answer.clear();
        socket.write_all(REQUEST).await?;
        while !answer.ends_with(backend::BODY) {
            let read = socket.read_buf(&mut answer).await?;
            ensure!(read > 0, "an answer broke off: {}", String::from_utf8_lossy(&answer));
        }
        ensure!(
            answer.starts_with(b"HTTP/1.1 200 OK\r\n"),
            "wrong answer: {}",
            String::from_utf8_lossy(&answer)
        );
    }
    Ok(requests)
}

#[cfg(test)]
mod tests;
