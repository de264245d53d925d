//! Program life cycle: load files, sync the cluster, serve, drain.

use std::{process::ExitCode, sync::Arc, time::Duration};

use proxy_process::{
    admin::{self, Admin, Readiness},
    log, program, signals,
    tasks::Tasks,
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{
    args::Args,
    body::Budget,
    cluster::Cluster,
    events::{self, Events},
    metrics::Metrics,
    reload::{self, Pair, Place},
    server::Webhook,
    source::{self, Source},
};

/// Time for reviews in progress to finish after a signal; one takes a millisecond.
const GRACE: Duration = Duration::from_secs(10);

/// Runs until a signal ends it.
pub(crate) fn run(args: Args) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    program::run("mesh-injector", runtime, serve(args))
}

async fn serve(args: Args) -> anyhow::Result<()> {
    let filter = std::env::var("MESH_LOG").unwrap_or_else(|_| "info".to_owned());
    let _log = log::init(&filter, log::Format::Plain)?;
    let stop = signals::stop_token()?;
    let listener = admin::listen(args.addr).await?;
    let admin_listener = admin::listen(args.admin_addr).await?;
    let source = source::source(&args).await?;
    Ok(start(args, source, (listener, admin_listener), stop)
        .finish(GRACE)
        .await?)
}

/// Starts all tasks; they end with `stop`.
fn start(args: Args, source: Source, listeners: (TcpListener, TcpListener), stop: CancellationToken) -> Tasks {
    let metrics = Metrics::new();
    let (client, states) = source.cluster.unzip();
    let (tls, certificate) = source::certificate(&args, client.as_ref(), (metrics.clone(), stop.clone()));
    let (sender, injector) = watch::channel(None);
    let (known, ready) = (Readiness::default(), Readiness::default());
    let cluster = Cluster::default();
    let mut tasks = Tasks::new(stop.clone());

    let mut webhook = Webhook {
        tls: tls.clone(),
        injector: injector.clone(),
        cluster: cluster.clone(),
        events: Events::default(),
        metrics: metrics.clone(),
        bodies: Budget::default(),
    };
    if let Some(client) = client.clone() {
        let (events, queue) = Events::queue();
        webhook.events = events;
        let recorder = events::run(queue, client, cluster.clone(), metrics.clone());
        tasks.spawn_until_stop("events", recorder);
    }
    let admin = {
        let metrics = metrics.clone();
        Admin::new(ready.clone(), move || source::render(&metrics, states.as_ref()))
    };
    tasks.spawn("webhook", Arc::new(webhook).serve(listeners.0, stop.clone()));
    tasks.spawn("admin", admin::serve(listeners.1, admin, stop.clone()));
    tasks.spawn_until_stop("certificate", certificate);
    let values = async move {
        let place = Place {
            native_sidecars: source::native_sidecars(client.as_ref()).await,
            namespace: args.control_plane_namespace,
        };
        let pair = Pair {
            what: "values",
            files: [args.values, args.trust_anchors],
            make: Box::new(move |texts: [&str; 2]| reload::injector(texts, &place)),
        };
        pair.poller(metrics, sender).run().await;
    };
    tasks.spawn_until_stop("values", values);
    let followed = cluster.follow(source.updates, known.clone());
    tasks.spawn_until_stop("namespaces", followed);
    let (mut tls, mut injector) = (tls, injector);
    let readiness = async move {
        // The last valid value stays in force, so readiness never reverts.
        let both = source::some(&mut tls).await && source::some(&mut injector).await;
        while !(both && known.is_ready()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tracing::info!("ready");
        ready.set();
        std::future::pending::<()>().await;
    };
    tasks.spawn_until_stop("readiness", readiness);
    tasks
}
