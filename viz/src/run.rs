//! From the command line to the end of the process.

use std::{net::TcpListener as StdListener, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use clap::Parser;
use proxy_process::{
    admin::{self, Admin, Readiness},
    log, signals,
    tasks::Tasks,
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{
    api,
    args::Args,
    objects::{self, TrustDomain},
    scrape::{self, Shared},
};

/// What is logged unless RUST_LOG says something else.
const LOG: &str = "warn,mesh_viz=info";
/// Time that requests under way get when the process ends.
const DRAIN: Duration = Duration::from_secs(5);

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(run(args)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mesh-viz: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    let _log = log::init(
        &std::env::var("RUST_LOG").unwrap_or_else(|_| LOG.to_owned()),
        log::Format::Plain,
    )?;
    let stop = signals::stop_token()?;
    let updates = destination_source::directory::watch(args.manifests.clone())?;
    let (objects, known) = watch::channel(Arc::default());
    let shared = Shared::new(known, args.scrape_interval, args.window);
    let listener = listen(&args).await?;
    let admin_listener = admin::listen(args.admin_addr).await?;
    let ready = Readiness::default();
    let metrics = {
        let shared = shared.clone();
        move || api::own_metrics(&shared)
    };
    let trust = TrustDomain {
        control_plane: args.control_plane_namespace,
        domain: args.identity_trust_domain,
    };
    let mut tasks = Tasks::new(stop.clone());
    tasks.spawn(
        "admin",
        admin::serve(admin_listener, Admin::new(ready.clone(), metrics), stop.clone()),
    );
    tasks.spawn("objects", until(stop.clone(), objects::follow(updates, trust, objects)));
    tasks.spawn("scrape", until(stop.clone(), scrape::run(shared.clone())));
    tasks.spawn("api", api::serve(listener, shared, ready.clone(), stop.clone()));
    ready.set();
    tasks.finish(DRAIN).await?;
    Ok(())
}

/// Does the task until the stop; it has nothing to bring to an end.
async fn until<E>(stop: CancellationToken, task: impl Future<Output = Result<(), E>>) -> Result<(), E> {
    stop.run_until_cancelled(task).await.unwrap_or(Ok(()))
}

/// The inherited socket if there is one, for then who started us has its address on another side of a namespace.
async fn listen(args: &Args) -> anyhow::Result<TcpListener> {
    let inherited: Option<StdListener> = listenfd::ListenFd::from_env()
        .take_tcp_listener(0)
        .context("LISTEN_FDS is set, but the first socket is no TCP listener")?;
    match inherited {
        Some(listener) => {
            listener
                .set_nonblocking(true)
                .context("cannot use the inherited socket")?;
            TcpListener::from_std(listener).context("cannot use the inherited socket")
        }
        None => TcpListener::bind(args.addr)
            .await
            .with_context(|| format!("--addr {}: cannot listen", args.addr)),
    }
}
