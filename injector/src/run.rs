//! Program life cycle: load files, sync the cluster, serve, drain.

use std::{process::ExitCode, sync::Arc, time::Duration};

use destination_source::{Source, cluster::FOR_INJECTOR};
use proxy_process::{
    admin::Readiness,
    program::{self, Context, Program},
    tasks::Tasks,
};
use tokio::sync::watch;

use crate::{
    args::Args,
    body::Budget,
    cluster::Cluster,
    events::{self, Events},
    metrics::Metrics,
    reload::{self, Pair, Place},
    server::{Webhook, Webhooks, with_limits},
    source,
};

/// Time for reviews in progress to finish after a signal; one takes a millisecond.
const GRACE: Duration = Duration::from_secs(10);

/// Runs until a signal ends it.
pub(crate) fn run(args: Args) -> ExitCode {
    let program = Program {
        name: "mesh-injector",
        threads: 0,
        grace: GRACE,
    };
    program::main(program, |context| start(args, context))
}

/// Starts all tasks.
async fn start(args: Args, mut context: Context) -> anyhow::Result<Tasks> {
    let listener = context.listen(args.addr).await?;
    let admin_listener = context.listen(args.admin_addr).await?;
    let source = Source::open(&args.manifests, args.cluster(), FOR_INJECTOR).await?;
    let metrics = Metrics::new();
    let (client, states) = source.cluster.unzip();
    let stop = context.stop.clone();
    let (tls, certificate) = source::certificate(&args, client.as_ref(), metrics.clone(), stop.clone());
    let (sender, injector) = watch::channel(None);
    let known = Readiness::default();
    let cluster = Cluster::default();

    let mut webhook = Webhook {
        tls: tls.clone(),
        injector: injector.clone(),
        cluster: cluster.clone(),
        events: Events::default(),
        metrics: metrics.clone(),
        bodies: Budget::default(),
        refusals: context.refusals.clone(),
    };
    if let Some(client) = client.clone() {
        let (events, queue) = Events::queue();
        webhook.events = events;
        let recorder = events::run(queue, client, cluster.clone(), metrics.clone());
        context.tasks.spawn_until_stop("events", recorder);
    }
    let page = metrics.clone();
    context.serve_admin(
        admin_listener,
        move || source::render(&page, states.as_ref()),
        axum::Router::new(),
    );
    let server = with_limits(context.server("webhook"));
    let serving = server.serve(listener, Webhooks(Arc::new(webhook)), stop);
    context.tasks.spawn("webhook", serving);
    context.tasks.spawn_until_stop("certificate", certificate);
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
    context.tasks.spawn_until_stop("values", values);
    let followed = cluster.follow(source.updates, known.clone());
    context.tasks.spawn_until_stop("namespaces", followed);
    let (mut tls, mut injector, ready) = (tls, injector, context.ready.clone());
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
    context.tasks.spawn_until_stop("readiness", readiness);
    Ok(context.tasks)
}
