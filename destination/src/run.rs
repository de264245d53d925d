//! The program's life: read objects, serve, apply changes, drain.

use std::{
    convert::Infallible,
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Json, Router, routing::get};
use destination_grpc::{Metrics, Service, lock};
use destination_index::Index;
use destination_source::{
    Source,
    cluster::{self, Client, Elector, LeaseOptions, States},
};
use proxy_process::{
    admin::{self, Admin, Readiness},
    local::LocalClient,
    program::{self, Context, Program},
    serve::{Refusals, Server},
    tasks::Tasks,
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{
    args::Args,
    feed::Feed,
    status::{DesiredStatuses, Writer},
};

/// Time for streams to end after a signal; they are all closed at once.
const GRACE: Duration = Duration::from_secs(5);
/// Lease of the writer of statuses, named as in upstream.
const LEASE: &str = "policy-controller-write";
/// Worker threads: enough for two cores' worth of changes, and few enough to cost nothing when idle on a node of a
/// hundred cores.
const THREADS: usize = 2;

/// Runs until a signal ends it.
pub(crate) fn run(args: Args) -> ExitCode {
    let program = Program {
        name: "mesh-destination",
        threads: THREADS,
        grace: GRACE,
    };
    program::main(program, |context| prepare(args, context))
}

async fn prepare(args: Args, context: Context) -> anyhow::Result<Tasks> {
    let listeners = Listeners {
        destination: context.listen(args.destination_addr).await?,
        policy: context.listen(args.policy_addr).await?,
        admin: context.listen(args.admin_addr).await?,
    };
    let source = Source::open(&args.manifests, args.cluster(), cluster::FOR_DESTINATION).await?;
    Ok(start(&args, source, listeners, context.stop))
}

/// Listeners of the program.
pub(crate) struct Listeners {
    pub(crate) destination: TcpListener,
    pub(crate) policy: TcpListener,
    pub(crate) admin: TcpListener,
}

/// Starts all tasks, which end with `stop`.
pub(crate) fn start(args: &Args, source: Source, listeners: Listeners, stop: CancellationToken) -> Tasks {
    let index = Arc::new(Mutex::new(Index::new(args.config())));
    let metrics = Metrics::default();
    let ready = Readiness::default();
    let refusals = Refusals::default();
    let service = Service::new(index.clone(), metrics.clone(), stop.clone());
    let mut feed = Feed::new(index.clone(), metrics.clone(), ready.clone(), refusals.clone());

    let mut tasks = Tasks::new(stop.clone());
    for (name, listener) in [("destination", listeners.destination), ("policy", listeners.policy)] {
        let (read, stop, service) = (feed.read.clone(), stop.clone(), service.clone());
        let counted = refusals.clone();
        let server = Server::new(name, move |limit| counted.count(limit));
        tasks.spawn(name, async move {
            // Before the initial sync, "not found" would be wrong.
            if stop.run_until_cancelled(read.cancelled()).await.is_none() {
                return Ok(());
            }
            service.serve(server, listener).await
        });
    }
    let states = source.cluster.as_ref().map(|(_, states)| states.clone());
    if let Some(cluster) = source.cluster {
        let (sender, desired) = watch::channel(DesiredStatuses::default());
        feed.statuses = Some(sender);
        write_statuses(args, cluster, desired, &mut tasks, (metrics.clone(), stop.clone()));
    }
    let admin = admin(ready, index, metrics, states).with_refusals(refusals);
    tasks.spawn("admin", admin::serve(listeners.admin, admin, stop.clone()));
    tasks.spawn("objects", async move {
        stop.run_until_cancelled(feed.run(source.updates)).await;
        Ok::<(), Infallible>(())
    });
    tasks
}

/// Starts writing statuses while this process holds the lease.
fn write_statuses(
    args: &Args,
    (client, states): (Client, States),
    desired: watch::Receiver<DesiredStatuses>,
    tasks: &mut Tasks,
    (metrics, stop): (Metrics, CancellationToken),
) {
    // A pod's host name is its name.
    let holder = std::env::var("HOSTNAME").unwrap_or_else(|_| format!("mesh-destination-{}", std::process::id()));
    let options = LeaseOptions::new(&args.control_plane_namespace, LEASE, &holder);
    let (elector, leads) = Elector::new(&client, options);
    let writer = Writer {
        client,
        states,
        leads,
        desired,
        metrics,
    };
    let ends = stop.clone();
    tasks.spawn("lease", async move {
        elector.run(ends).await;
        Ok::<(), Infallible>(())
    });
    tasks.spawn("statuses", async move {
        stop.run_until_cancelled(writer.run()).await;
        Ok::<(), Infallible>(())
    });
}

fn admin(ready: Readiness, index: Arc<Mutex<Index>>, metrics: Metrics, states: Option<States>) -> Admin {
    let streams = metrics.clone();
    let render = move || {
        let counts = lock(&index).counts();
        let own = metrics.render(counts);
        let Some(states) = &states else { return own };
        // Each text ends with a marker; the whole has one.
        format!("{}{}", own.trim_end_matches("# EOF\n"), states.render())
    };
    let more = Router::new().route("/streams", get(async move |_: LocalClient| Json(streams.rows())));
    Admin::new(ready, render).with(more)
}
