//! One end of the measurement, in a network namespace of its own: a control plane that says what the sidecar there
//! asks, and the load (client) or the backend (server).

use std::{
    net::{Ipv4Addr, SocketAddr},
    os::fd::AsFd as _,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Result, ensure};
use injector_redirect::Rules;
use proxy_model::OutboundTarget;
use tests_harness::{ControlPlane, Pki, certificates::identity, client::Client, values};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::unix::pipe::Receiver,
    task::LocalSet,
};

use crate::{
    backend, load, namespaces,
    orders::{self, Answer, Order},
    proxy, wire,
};

/// Which end, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Client or server.
    #[arg(long)]
    pub(crate) role: Role,
    /// Folder with anchor and issuer.
    #[arg(long)]
    pub(crate) pki: PathBuf,
    /// Without a namespace: the backend is on loopback, and there is no control plane.
    #[arg(long)]
    pub(crate) loopback: bool,
}

/// Which end.
#[derive(Copy, Clone, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    /// Where requests come from.
    Client,
    /// Where they go.
    Server,
}

/// Runs until standard input ends.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !args.loopback {
        namespaces::network()?;
    }
    namespaces::stay_on(0)?;
    orders::answer(&Answer::Entered)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(LocalSet::new().run_until(obey(args)))
}

async fn obey(args: &Args) -> Result<()> {
    let mut control = None;
    let stdin = std::io::stdin().as_fd().try_clone_to_owned()?;
    let mut lines = BufReader::new(Receiver::from_owned_fd(stdin)?).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = match serde_json::from_str(&line)? {
            Order::Start => start(args, &mut control).await,
            Order::Await(addr) => ready(addr).await,
            Order::CheckMeshed(addr) => check_meshed(addr).await,
            Order::Load(load) => load::run(&load).await.map(Answer::Loaded),
        };
        orders::answer(&answer.unwrap_or_else(|error| Answer::Failed(format!("{error:#}"))))?;
    }
    Ok(())
}

async fn start(args: &Args, control: &mut Option<ControlPlane>) -> Result<Answer> {
    if !args.loopback {
        let address = if args.role == Role::Client {
            wire::CLIENT
        } else {
            wire::SERVER
        };
        wire::up(address).await?;
        injector_redirect::apply(&Rules {
            mark: Some(proxy::MARK),
            inbound_skip: [proxy::BARE_PORT].into_iter().collect(),
            outbound_skip: [proxy::BARE_PORT].into_iter().collect(),
            ..Rules::default()
        })?;
        let plane = ControlPlane::start_at(proxy::control_addr(), Pki::load(&args.pki)?).await;
        let endpoint = values::meshed((wire::SERVER, proxy::BACKEND_PORT).into(), &identity("bench", "server"));
        plane.set_endpoints(proxy::SERVICE_PATH, Some(values::endpoints([endpoint])));
        let service = OutboundTarget::Addr(proxy::service_addr());
        plane.set_outbound(&service, Some(values::service("bench", "server", proxy::SERVICE_PORT)));
        *control = Some(plane);
    }
    if args.role == Role::Client {
        return Ok(Answer::Done);
    }
    let (ip, port) = if args.loopback {
        (Ipv4Addr::LOCALHOST, 0)
    } else {
        (Ipv4Addr::UNSPECIFIED, proxy::BACKEND_PORT)
    };
    Ok(Answer::Listening(backend::start((ip, port).into()).await?))
}

/// Asks an admin server until it is ready.
async fn ready(addr: SocketAddr) -> Result<Answer> {
    let answers = async {
        loop {
            if let Ok(mut client) = Client::http1(addr, "localhost").await
                && client
                    .get("/ready")
                    .await
                    .is_ok_and(|answer| answer.status.is_success())
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(10), answers).await;
    ensure!(waited.is_ok(), "mesh-proxy at {addr} was not ready within 10 s");
    Ok(Answer::Done)
}

/// Looks at a sidecar's metrics: a measurement of something else than the mesh would be worse than none.
async fn check_meshed(addr: SocketAddr) -> Result<Answer> {
    let request_over = |error| anyhow::anyhow!("cannot read the metrics of {addr}: {error}");
    let mut client = Client::http1(addr, "localhost").await.map_err(request_over)?;
    let metrics = client.get("/metrics").await.map_err(request_over)?.body;
    let text = String::from_utf8_lossy(&metrics);
    let meshed = text
        .lines()
        .any(|line| line.starts_with("request_total{") && line.contains("tls=\"true\""));
    ensure!(meshed, "the sidecar at {addr} has counted no request over mutual TLS");
    Ok(Answer::Done)
}
