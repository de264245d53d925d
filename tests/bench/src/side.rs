//! One end of the measurement in a network namespace of its own: a scripted control plane for its sidecar, and the load
//! (client) or the backend (server).

use std::{
    net::{Ipv4Addr, SocketAddr},
    os::fd::AsFd as _,
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use injector_redirect::Rules;
use tests_harness::{ControlPlane, Pki, client::Client};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::unix::pipe::Receiver,
    task::LocalSet,
};

use crate::{
    backend,
    load::{self, Held},
    namespaces,
    orders::{self, Answer, Counted, Order},
    proxy, updates, wire,
};

/// Run one end of the measurement.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Client or server
    #[arg(long)]
    pub(crate) role: proxy::Role,
    /// Directory with trust anchor and issuer
    #[arg(long)]
    pub(crate) pki: PathBuf,
    /// Run the backend on loopback, without a namespace and a control plane
    #[arg(long)]
    pub(crate) loopback: bool,
}

/// Runs until standard input ends.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !args.loopback {
        namespaces::network()?;
        namespaces::busy()?;
    }
    namespaces::stay_on(0)?;
    orders::answer(&Answer::Entered)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(LocalSet::new().run_until(obey(args)))
}

async fn obey(args: &Args) -> Result<()> {
    let mut side = Side::default();
    let stdin = std::io::stdin().as_fd().try_clone_to_owned()?;
    let mut lines = BufReader::new(Receiver::from_owned_fd(stdin)?).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = match serde_json::from_str(&line)? {
            Order::Start => start(args, &mut side).await,
            Order::Await(addr) => ready(addr).await,
            Order::Count(addr) => count(addr).await.map(Answer::Counted),
            Order::Load(loads) => load::run(loads).await.map(Answer::Loaded),
            Order::Hold(addr, connections) => side.hold(addr, connections).await,
            Order::Release => side.release(),
            Order::Update(seconds) => side.update(args.role, seconds),
        };
        orders::answer(&answer.unwrap_or_else(|error| Answer::Failed(format!("{error:#}"))))?;
    }
    Ok(())
}

/// State of an end.
#[derive(Default)]
struct Side {
    control: Option<Rc<ControlPlane>>,
    held: Option<Held>,
}

impl Side {
    async fn hold(&mut self, addr: SocketAddr, connections: usize) -> Result<Answer> {
        self.held = Some(Held::open(addr, connections).await?);
        Ok(Answer::Done)
    }

    fn release(&mut self) -> Result<Answer> {
        self.held = None;
        Ok(Answer::Done)
    }

    fn update(&self, role: proxy::Role, seconds: u64) -> Result<Answer> {
        let control = self.control.clone().context("there is no control plane")?;
        tokio::task::spawn_local(async move {
            for second in 0..seconds {
                updates::say(&control, role, second);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        Ok(Answer::Done)
    }
}

async fn start(args: &Args, side: &mut Side) -> Result<Answer> {
    if !args.loopback {
        let address = if args.role == proxy::Role::Client {
            wire::CLIENT
        } else {
            wire::SERVER
        };
        wire::up(address).await?;
        injector_redirect::apply(&Rules {
            mark: Some(proxy::MARK),
            inbound_skip: proxy::BARE_PORTS.into_iter().collect(),
            outbound_skip: proxy::BARE_PORTS.into_iter().collect(),
            ..Rules::default()
        })?;
        let plane = ControlPlane::start_at(proxy::control_addr(), Pki::load(&args.pki)?).await;
        updates::begin(&plane);
        side.control = Some(Rc::new(plane));
    }
    if args.role == proxy::Role::Server {
        let ip = if args.loopback {
            Ipv4Addr::LOCALHOST
        } else {
            Ipv4Addr::UNSPECIFIED
        };
        backend::start((ip, proxy::BACKEND_PORT).into())?;
        backend::echo((ip, proxy::ECHO_PORT).into())?;
    }
    Ok(Answer::Done)
}

/// Polls an admin server until it is ready.
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
    ensure!(waited.is_ok(), "the sidecar at {addr} was not ready within 10 s");
    Ok(Answer::Done)
}

async fn count(addr: SocketAddr) -> Result<Counted> {
    let request_over = |error| anyhow::anyhow!("cannot read the metrics of {addr}: {error}");
    let mut client = Client::http1(addr, "localhost").await.map_err(request_over)?;
    let metrics = client.get("/metrics").await.map_err(request_over)?.body;
    Ok(counted(&String::from_utf8_lossy(&metrics)))
}

/// Families that stay at zero without errors.
const ERRORS: [&str; 7] = [
    "inbound_http_errors_total{",
    "inbound_tcp_errors_total{",
    "outbound_http_errors_total{",
    "outbound_tcp_errors_total{",
    "inbound_http_authz_deny_total{",
    "mesh_limit_refused_total{",
    "mesh_connection_panics_total",
];

fn counted(metrics: &str) -> Counted {
    let is_failure = |line: &&str| {
        let counts = !line.ends_with(" 0") && !line.starts_with('#');
        let failed = line.starts_with("response_total{") && line.contains("classification=\"failure\"");
        counts && (failed || ERRORS.iter().any(|family| line.starts_with(family)))
    };
    let is_meshed = |line: &str| line.starts_with("tcp_open_total{") && line.contains("tls=\"true\"");
    Counted {
        is_meshed: metrics.lines().any(is_meshed),
        errors: metrics.lines().filter(is_failure).map(str::to_owned).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_found_and_zeros_are_none() {
        let metrics = "# HELP response_total x\n\
            tcp_open_total{peer=\"dst\",tls=\"true\"} 2\n\
            response_total{classification=\"success\"} 5\n\
            inbound_http_errors_total{error=\"io\"} 0\n\
            mesh_connection_panics_total 0\n";
        let good = counted(metrics);
        assert!(good.is_meshed && good.errors.is_empty(), "{:?}", good.errors);
        let bad = counted("outbound_tcp_errors_total{error=\"io\"} 3\nresponse_total{classification=\"failure\"} 1\n");
        assert_eq!((bad.is_meshed, bad.errors.len()), (false, 2));
    }
}
