//! The program's life: read files, learn the namespaces, serve, drain.

use std::{convert::Infallible, process::ExitCode, sync::Arc, time::Duration};

use destination_source::directory;
use proxy_process::{
    admin::{self, Admin, Readiness},
    log, signals,
    tasks::Tasks,
};
use tokio_util::sync::CancellationToken;

use crate::{
    args::Args,
    cluster::Cluster,
    metrics::Metrics,
    reload::{self, Pair},
    server::Webhook,
};

/// Time that reviews under way have to end after a signal; one takes a millisecond.
const GRACE: Duration = Duration::from_secs(10);

/// Runs until a signal ends it.
pub(crate) fn run(args: Args) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(serve(args)),
        Err(error) => Err(anyhow::Error::new(error).context("cannot start the runtime")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mesh-injector: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: Args) -> anyhow::Result<()> {
    let filter = std::env::var("MESH_LOG").unwrap_or_else(|_| "info".to_owned());
    let _log = log::init(&filter, log::Format::Plain)?;
    let stop = signals::stop_token()?;
    let listener = admin::listen(args.addr).await?;
    let admin_listener = admin::listen(args.admin_addr).await?;
    let updates = directory::watch(args.manifests)?;

    let metrics = Metrics::new();
    let certificate = Pair {
        what: "certificate",
        files: [args.tls_cert, args.tls_key],
        make: Box::new(reload::tls),
    };
    let (tls, certificate) = certificate.follow(metrics.clone());
    let namespace = args.control_plane_namespace;
    let make = Box::new(move |texts: [&str; 2]| reload::injector(texts, &namespace));
    let values = Pair {
        what: "values",
        files: [args.values, args.trust_anchors],
        make,
    };
    let (injector, values) = values.follow(metrics.clone());

    let (known, ready) = (Readiness::default(), Readiness::default());
    let cluster = Cluster::default();
    let admin = {
        let metrics = metrics.clone();
        Admin::new(ready.clone(), move || metrics.render())
    };
    let (mut tls_seen, mut injector_seen) = (tls.clone(), injector.clone());
    let webhook = Arc::new(Webhook {
        tls,
        injector,
        cluster: cluster.clone(),
        metrics,
    });
    let mut tasks = Tasks::new(stop.clone());
    let followed = {
        let known = known.clone();
        async move { cluster.follow(updates, known).await }
    };
    tasks.spawn("webhook", webhook.serve(listener, stop.clone()));
    tasks.spawn("admin", admin::serve(admin_listener, admin, stop.clone()));
    tasks.spawn("certificate", until(stop.clone(), certificate));
    tasks.spawn("values", until(stop.clone(), values));
    tasks.spawn("namespaces", until(stop.clone(), followed));
    tasks.spawn(
        "readiness",
        until(stop, async move {
            // What was good once stays in force, so this never goes back.
            let both = tls_seen.wait_for(Option::is_some).await.is_ok()
                && injector_seen.wait_for(Option::is_some).await.is_ok();
            while !(both && known.is_ready()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            ready.set();
            std::future::pending::<()>().await;
        }),
    );
    Ok(tasks.finish(GRACE).await?)
}

/// A task that ends by itself only with the process.
async fn until(stop: CancellationToken, task: impl Future<Output = ()>) -> Result<(), Infallible> {
    stop.run_until_cancelled(task).await;
    Ok(())
}
