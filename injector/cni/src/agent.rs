//! Life cycle of the installer: keep the plugin in place, repair pods, and finally decide whether the plugin stays.
//!
//! The plugin stays if another pod of the DaemonSet follows (a new version, a reboot): until then it cannot reach the
//! cluster, and pods wait instead of starting without their rules. It is removed together with the DaemonSet.

use std::{
    convert::Infallible,
    path::Path,
    process::ExitCode,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use destination_source::{
    Error as SourceError,
    cluster::{self, Client, ClientOptions, Resource},
};
use notify::{RecursiveMode, Watcher as _};
use proxy_process::{
    admin::Readiness,
    program::{self, Context, Program},
    tasks::Tasks,
};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    args::InstallArgs,
    install::{Account, Installer, Places},
    metrics::Metrics,
    repair::{self, Installed},
    taint,
};

/// Time for tasks to finish after a signal: the lookup of the DaemonSet and the removal; a pod has 30 s to terminate.
const GRACE: Duration = Duration::from_secs(10);
/// Pause between reconciliations while no file changes.
const IDLE_PAUSE: Duration = Duration::from_secs(10);
/// Pause between reconciliations after a failure, or while changes cannot be watched.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Shortest pause between reconciliations, however often files change.
const MIN_PAUSE: Duration = Duration::from_millis(10);
/// Timeout of the lookup of the DaemonSet; a pod has 30 s to terminate.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a runtime to notice a changed chain; until then it may call the plugin.
const SETTLE: Duration = Duration::from_millis(500);

/// Runs until a signal ends it.
pub(crate) fn run(args: InstallArgs) -> ExitCode {
    let program = Program {
        name: "mesh-cni",
        threads: 0,
        grace: GRACE,
    };
    let failed = Arc::new(AtomicBool::new(false));
    let code = program::main(program, |context| start(args, context, Arc::clone(&failed)));
    // An error after the stop does not reach the exit status by itself.
    if failed.load(Relaxed) { ExitCode::FAILURE } else { code }
}

async fn start(args: InstallArgs, mut context: Context, failed: Arc<AtomicBool>) -> anyhow::Result<Tasks> {
    let listener = context.listen(args.admin_addr).await?;
    let client = cluster::client(&ClientOptions::default()).await?;
    let installer = installer(&args)?;
    let (metrics, ready) = (Metrics::new(), context.ready.clone());
    let page = metrics.clone();
    context.serve_admin(listener, move || page.render(), axum::Router::new());
    let (joined, since) = watch::channel(SystemTime::now());
    let (reconciling, reconciled) = oneshot::channel::<Infallible>();
    let reconciler = reconcile(installer.clone(), ready.clone(), joined, metrics.clone());
    context.tasks.spawn_until_stop("install", async move {
        let _reconciling = reconciling;
        reconciler.await;
    });
    if let Some(node) = args.node.clone().filter(|_| args.repair) {
        let installed = Installed {
            ready: ready.clone(),
            since,
        };
        let repairs = repair::run(client.clone(), node, installed, metrics);
        context.tasks.spawn_until_stop("repair", repairs);
    }
    if let Some((node, taint)) = args.node.clone().zip(args.startup_taint.clone()) {
        let removal = taint::remove(client.clone(), node, taint, ready);
        context.tasks.spawn_until_stop("taint", removal);
    }
    context.tasks.spawn("removal", async move {
        // Ends with the reconciler, which would add the plugin again.
        let _ = reconciled.await;
        finish(&client, &args, &installer).await.map_err(|error| {
            failed.store(true, Relaxed);
            let error = format!("{error:#}");
            tracing::error!(error, "cannot remove the plugin");
            error
        })
    });
    Ok(context.tasks)
}

/// Removes the plugin, unless another pod follows.
async fn finish(client: &Client, args: &InstallArgs, installer: &Installer) -> anyhow::Result<()> {
    if has_successor(client, args).await {
        tracing::info!("leaving the plugin in place for the next pod");
        return Ok(());
    }
    installer
        .leave()
        .context("cannot remove the plugin from the network configurations")?;
    tokio::time::sleep(SETTLE).await;
    installer.clean().context("cannot remove the plugin's files")?;
    tracing::info!("removed the plugin");
    Ok(())
}

fn installer(args: &InstallArgs) -> anyhow::Result<Installer> {
    Ok(Installer {
        places: Places {
            bin_dir: args.bin_dir.clone(),
            net_dir: args.net_dir.clone(),
            host_net_dir: args.host_net_dir.clone(),
        },
        program: std::env::current_exe().context("cannot find the path of this program")?,
        config: args.config.clone(),
        account: Account {
            dir: args.account_dir.clone(),
            server: args.server(),
        },
        compared: OnceLock::new(),
    })
}

/// Reconciles on each change of a file, and periodically.
async fn reconcile(installer: Installer, ready: Readiness, joined: watch::Sender<SystemTime>, metrics: Metrics) {
    let (changed, mut changes) = mpsc::channel(1);
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // The installer's own reads are events as well.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // One queued change stands for all.
            let _ = changed.try_send(());
        }
    });
    let mut watcher = watcher
        .inspect_err(|error| tracing::warn!(%error, "cannot watch files; polling every second"))
        .ok();
    let mut logged = String::new();
    loop {
        let watched = watcher.as_mut().is_some_and(|watcher| watch_dirs(watcher, &installer));
        let looked = installer.reconcile();
        let pause = if looked.is_ok() && watched {
            IDLE_PAUSE
        } else {
            RETRY_PAUSE
        };
        let now = match looked {
            Ok(looked) => {
                metrics.looked(if looked.written.is_empty() {
                    "in_place"
                } else {
                    "changed"
                });
                metrics.configurations(looked.joined.len(), looked.refused.len());
                for file in &looked.written {
                    tracing::info!(%file, "wrote");
                }
                if looked.rejoined {
                    joined.send_replace(SystemTime::now());
                }
                if !looked.joined.is_empty() {
                    ready.set();
                }
                summary(&looked)
            }
            Err(error) => {
                metrics.looked("failed");
                format!("cannot install the plugin: {error}")
            }
        };
        if now != logged {
            tracing::info!("{now}");
            logged = now;
        }
        tokio::time::sleep(MIN_PAUSE).await;
        let _ = tokio::time::timeout(pause, changes.recv()).await;
    }
}

fn summary(looked: &crate::install::Reconciled) -> String {
    let list = |names: Vec<String>| names.join(", ");
    let refused = looked.refused.iter().map(|(name, why)| format!("{name} ({why})"));
    let refused = match list(refused.collect()) {
        none if none.is_empty() => String::new(),
        some => format!("; ignored: {some}"),
    };
    match list(looked.joined.iter().cloned().collect()) {
        none if none.is_empty() => format!("no network configuration to join yet{refused}"),
        some => format!("joined {some}{refused}"),
    }
}

/// Watches the relevant folders; missing ones are retried later. Returns true if all are watched.
fn watch_dirs(watcher: &mut notify::RecommendedWatcher, installer: &Installer) -> bool {
    let config = installer.config.parent().unwrap_or(Path::new("/"));
    let places = &installer.places;
    let dirs = [&places.net_dir, &places.bin_dir, &installer.account.dir];
    let mut all = dirs.into_iter().map(|dir| dir.as_path()).chain([config]);
    // Watching again costs nothing, and finds a folder that was recreated.
    all.all(|dir| watcher.watch(dir, RecursiveMode::NonRecursive).is_ok())
}

/// Returns true if the DaemonSet will run another pod on this node.
async fn has_successor(client: &Client, args: &InstallArgs) -> bool {
    let owners = async {
        let namespace = Resource::new("v1", "namespaces").get(client, &args.namespace).await?;
        let sets = Resource::new("apps/v1", "daemonsets").within(&args.namespace);
        let set = sets.get(client, &args.daemonset).await?;
        let node = match &args.node {
            Some(node) => Resource::new("v1", "nodes").get(client, node).await?,
            None => Value::Null,
        };
        Ok(Owners { namespace, set, node })
    };
    match tokio::time::timeout(LOOKUP_TIMEOUT, owners).await {
        Ok(owners) => stays(owners),
        // The node or the API server is going down, which does not justify removing the plugin.
        Err(_) => true,
    }
}

/// Objects that this pod depends on.
struct Owners {
    namespace: Value,
    set: Value,
    node: Value,
}

/// Returns true if the DaemonSet exists, stays, and selects this node.
fn stays(owners: Result<Owners, SourceError>) -> bool {
    match owners {
        Ok(Owners { namespace, set, node }) => {
            let is_deleted = |object: &Value| !object["metadata"]["deletionTimestamp"].is_null();
            let selector = set["spec"]["template"]["spec"]["nodeSelector"].as_object();
            let labels = &node["metadata"]["labels"];
            let is_selected =
                node.is_null() || selector.into_iter().flatten().all(|(key, value)| labels[key] == *value);
            !is_deleted(&namespace) && !is_deleted(&set) && is_selected
        }
        // A lost network is not an uninstallation; a lost account or permission is.
        Err(error) => matches!(error, SourceError::Unreachable { .. } | SourceError::Refused { .. }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn owners() -> Owners {
        Owners {
            namespace: json!({"metadata": {"name": "linkerd-cni"}}),
            set: json!({"metadata": {"name": "linkerd-cni"},
                "spec": {"template": {"spec": {"nodeSelector": {"kubernetes.io/os": "linux"}}}}}),
            node: json!({"metadata": {"labels": {"kubernetes.io/os": "linux", "zone": "a"}}}),
        }
    }

    #[test]
    fn plugin_is_removed_only_with_its_daemonset() {
        assert!(stays(Ok(owners())), "a new version, or a restart of the pod");
        let going = || json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let (mut uninstalled, mut deleted) = (owners(), owners());
        uninstalled.namespace = going();
        deleted.set = going();
        assert!(!stays(Ok(uninstalled)) && !stays(Ok(deleted)));
        assert!(!stays(Err(SourceError::Absent { what: "get".to_owned() })));
        assert!(!stays(Err(SourceError::Unauthorized("https://a".into()))));
        let away = SourceError::Unreachable {
            url: "https://a".into(),
            reason: "connection refused".to_owned(),
        };
        assert!(stays(Err(away)), "the node reboots");
    }

    #[test]
    fn plugin_is_removed_from_deselected_nodes() {
        let mut elsewhere = owners();
        elsewhere.set["spec"]["template"]["spec"]["nodeSelector"]["zone"] = "b".into();
        assert!(!stays(Ok(elsewhere)), "its pods would never get credentials");
    }
}
