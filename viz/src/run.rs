//! Start, tasks and end of the process.

use std::{convert::Infallible, net::TcpListener as StdListener, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use clap::Parser;
use destination_source::cluster::{
    CaBundleOf, States,
    certificate::{self, Keep},
};
use proxy_process::{
    admin::{self, Admin, Readiness},
    log, program, signals,
    tasks::Tasks,
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{self, Api},
    args::{Args, ClusterArgs},
    extension::{self, Certificates},
    metrics::Metrics,
    objects::{self, MeshConfig},
    scrape::{self, Interval, Telemetry},
    source::{self, ClusterSource},
    tap::Taps,
};

/// Default of the variable MESH_LOG.
const LOG: &str = "warn,mesh_viz=info,destination_source=info";
/// Service of the aggregated API.
const TAP_SERVICE: &str = "tap";
/// Secret with the certificate of the aggregated API.
const TAP_SECRET: &str = "tap-k8s-tls";
/// Time that requests in flight get when the process ends.
const DRAIN: Duration = Duration::from_secs(5);

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    program::run("mesh-viz", runtime, run(args))
}

async fn run(args: Args) -> anyhow::Result<()> {
    let _log = log::init(
        &std::env::var("MESH_LOG").unwrap_or_else(|_| LOG.to_owned()),
        log::Format::Plain,
    )?;
    let stop = signals::stop_token()?;
    let source = source::start(&args).await?;
    let (objects, known) = watch::channel(Arc::default());
    let interval = Interval {
        min: args.scrape_interval,
        max: args.scrape_interval_max,
    };
    let telemetry = Telemetry::new(known.clone(), interval, args.window);
    let own = Metrics::new();
    let taps = Taps::new(known, own.clone(), stop.clone());
    let listener = listen(&args).await?;
    let admin_listener = admin::listen(args.admin_addr).await?;
    let ready = Readiness::default();
    let metrics = {
        let (telemetry, states) = (telemetry.clone(), source.cluster.as_ref().map(|c| c.states.clone()));
        move || {
            own.render(&telemetry.source(telemetry.window_max_ms()))
                + &states.as_ref().map_or_else(String::new, States::render)
        }
    };
    let mesh = MeshConfig {
        control_plane: args.control_plane_namespace.clone(),
        domain: args.identity_trust_domain.clone(),
        containers: source.cluster.is_some(),
    };
    let api = Api {
        telemetry: telemetry.clone(),
        taps: source.cluster.is_none().then(|| taps.clone()),
        ready: ready.clone(),
    };
    let mut tasks = Tasks::new(stop.clone());
    tasks.spawn(
        "admin",
        admin::serve(admin_listener, Admin::new(ready.clone(), metrics), stop.clone()),
    );
    let followed = objects::follow(source.updates, mesh, objects);
    tasks.spawn("objects", until(stop.clone(), followed));
    tasks.spawn("scrape", until(stop.clone(), scrape::run(telemetry)));
    tasks.spawn("api", api::serve(listener, api, stop.clone()));
    match source.cluster {
        Some(cluster) => on_cluster(&args.cluster, cluster, (taps, ready), &mut tasks, stop).await?,
        None => ready.set(),
    }
    tasks.finish(DRAIN).await?;
    Ok(())
}

/// Starts what only a cluster has: tap as an aggregated API. Ready when all objects have been read once.
async fn on_cluster(
    args: &ClusterArgs,
    cluster: ClusterSource,
    (taps, ready): (Taps, Readiness),
    tasks: &mut Tasks,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(args.tap_addr).await;
    let listener = listener.with_context(|| format!("--tap-addr {}: cannot listen", args.tap_addr))?;
    let ClusterSource {
        client,
        states,
        namespace,
    } = cluster;
    let (own, kept) = certificate::keep(&client, keep(args, namespace), stop.clone());
    let (front, followed) = extension::follow(&client);
    let state = extension::Extension {
        client,
        taps,
        front: front.clone(),
    };
    let certificates = Certificates { own, front };
    let served = extension::serve(listener, extension::router(state), certificates, stop.clone());
    tasks.spawn("tap", served);
    tasks.spawn("front proxy", until(stop.clone(), followed));
    let kept = async move {
        kept.await;
        Ok::<_, Infallible>(())
    };
    tasks.spawn("certificate", kept);
    let synced = async move {
        while !states.is_synced() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        ready.set();
        std::future::pending::<Result<(), Infallible>>().await
    };
    tasks.spawn("readiness", until(stop, synced));
    Ok(())
}

/// Certificate of the aggregated API, and the objects that must trust it.
fn keep(args: &ClusterArgs, namespace: String) -> Keep {
    let service = format!("{TAP_SERVICE}.{namespace}.svc");
    Keep {
        secret: TAP_SECRET.to_owned(),
        labels: [("linkerd.io/extension".to_owned(), "viz".to_owned())].into(),
        dns_names: vec![service],
        external: args.tap_external_secret,
        ca_bundle_of: vec![(
            CaBundleOf::ApiService,
            format!("{}.{}", viz_api::cluster::VERSION, viz_api::cluster::GROUP),
        )],
        namespace,
    }
}

/// Runs a task that needs no shutdown until the stop.
async fn until<E>(stop: CancellationToken, task: impl Future<Output = Result<(), E>>) -> Result<(), E> {
    stop.run_until_cancelled(task).await.unwrap_or(Ok(()))
}

/// Returns the inherited socket if there is one: then the address is in the network namespace of the parent process.
async fn listen(args: &Args) -> anyhow::Result<TcpListener> {
    let inherited: Option<StdListener> = listenfd::ListenFd::from_env()
        .take_tcp_listener(0)
        .context("LISTEN_FDS is set, but the first socket is not a TCP listener")?;
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
