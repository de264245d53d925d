//! Start, tasks and end of the process.

use std::{convert::Infallible, net::TcpListener as StdListener, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::Router;
use clap::Parser;
use destination_source::cluster::{
    CaBundleOf, States,
    certificate::{self, Keep},
};
use proxy_process::{
    program::{self, Context, Program},
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
    token::Token,
};

/// Service of the aggregated API.
const TAP_SERVICE: &str = "tap";
/// Secret with the certificate of the aggregated API.
const TAP_SECRET: &str = "tap-k8s-tls";
/// Time that requests in flight get when the process ends.
const DRAIN: Duration = Duration::from_secs(5);

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    let program = Program {
        name: "mesh-viz",
        threads: 0,
        grace: DRAIN,
    };
    program::main(program, |context| start(args, context))
}

async fn start(args: Args, mut context: Context) -> anyhow::Result<Tasks> {
    let token = args.token_file.as_deref().map(Token::read).transpose()?;
    let source = source::start(&args).await?;
    let (objects, known) = watch::channel(Arc::default());
    let interval = Interval {
        min: args.scrape_interval,
        max: args.scrape_interval_max,
    };
    let telemetry = Telemetry::new(known.clone(), interval, args.window);
    let own = Metrics::new();
    let taps = Taps::new(known, own.clone(), context.stop.clone());
    let listener = listen(&args).await?;
    let admin_listener = context.listen(args.admin_addr).await?;
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
    let api = api::routers(Api {
        telemetry: telemetry.clone(),
        taps: source.cluster.is_none().then(|| taps.clone()),
        ready: context.ready.clone(),
        token,
    });
    context.serve_admin(admin_listener, metrics, Router::new());
    let mut server = context.server("api");
    // A tap is a stream.
    server.limits.call = None;
    let served = server.serve(listener, api, context.stop.clone());
    context.tasks.spawn("api", served);
    let followed = objects::follow(source.updates, mesh, objects);
    context.tasks.spawn("objects", until(context.stop.clone(), followed));
    let scraped = scrape::run(telemetry);
    context.tasks.spawn("scrape", until(context.stop.clone(), scraped));
    match source.cluster {
        Some(cluster) => start_extension(&args.cluster, cluster, taps, &mut context).await?,
        None => context.ready.set(),
    }
    Ok(context.tasks)
}

/// Starts tap as an aggregated API, on a cluster only. Ready when all objects have been read once.
async fn start_extension(
    args: &ClusterArgs,
    cluster: ClusterSource,
    taps: Taps,
    context: &mut Context,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(args.tap_addr).await;
    let listener = listener.with_context(|| format!("--tap-addr {}: cannot listen", args.tap_addr))?;
    let ClusterSource {
        client,
        states,
        namespace,
    } = cluster;
    let (own, kept) = certificate::keep(&client, keep(args, namespace), context.stop.clone());
    let (front, followed) = extension::follow(&client);
    let state = extension::Extension {
        client,
        taps,
        front: front.clone(),
    };
    let certificates = Certificates { own, front };
    let listening = extension::Listening {
        server: context.server("tap"),
        listener,
        refusals: context.refusals.clone(),
    };
    let served = extension::serve(listening, extension::router(state), certificates, context.stop.clone());
    context.tasks.spawn("tap", served);
    context
        .tasks
        .spawn("front proxy", until(context.stop.clone(), followed));
    let kept = async move {
        kept.await;
        Ok::<_, Infallible>(())
    };
    context.tasks.spawn("certificate", kept);
    let ready = context.ready.clone();
    context.tasks.spawn_until_stop("readiness", async move {
        while !states.is_synced() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        ready.set();
        std::future::pending::<()>().await;
    });
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
