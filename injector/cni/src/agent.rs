//! The life of what installs the plugin: keep it in place, repair, and at the end decide whether it stays.
//!
//! The plugin stays when another of us comes after us (a new version, a reboot): until then it cannot ask the cluster, and pods
//! wait instead of starting without their rules. It goes when our DaemonSet goes.

use std::{
    path::Path,
    process::ExitCode,
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use destination_source::{
    Error as SourceError,
    cluster::{self, Client, ClientOptions, Resource},
};
use notify::{RecursiveMode, Watcher as _};
use proxy_process::{
    admin::{self, Admin, Readiness},
    log, program, signals,
    tasks::Tasks,
};
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use crate::{
    args::InstallArgs,
    install::{Account, Installer, Places},
    metrics::Metrics,
    repair::{self, Installed},
    taint,
};

/// Time that tasks have to end after a signal.
const GRACE: Duration = Duration::from_secs(5);
/// Time between two looks where no file tells that it changed.
const LOOK: Duration = Duration::from_secs(10);
/// Time between two looks while something fails, or nobody tells that a file changed.
const RETRY: Duration = Duration::from_secs(1);
/// Least time between two looks, however often somebody writes.
const BETWEEN: Duration = Duration::from_millis(10);
/// Time for the cluster to say whether our DaemonSet is there; a pod has 30 s to end.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// Time in which a runtime learns that the chain is another one; until then it may call the plugin.
const SETTLE: Duration = Duration::from_millis(500);

/// Runs until a signal ends it.
pub(crate) fn run(args: InstallArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    program::run("mesh-cni", runtime, serve(args))
}

async fn serve(args: InstallArgs) -> anyhow::Result<()> {
    let filter = std::env::var("MESH_LOG").unwrap_or_else(|_| "info".to_owned());
    let _log = log::init(&filter, log::Format::Plain)?;
    let stop = signals::stop_token()?;
    let listener = admin::listen(args.admin_addr).await?;
    let client = cluster::client(&ClientOptions::default()).await?;
    let installer = installer(&args)?;
    let (metrics, ready) = (Metrics::new(), Readiness::default());
    let mut tasks = Tasks::new(stop.clone());
    let page = {
        let metrics = metrics.clone();
        Admin::new(ready.clone(), move || metrics.render())
    };
    tasks.spawn("admin", admin::serve(listener, page, stop.clone()));
    let (joined, since) = watch::channel(SystemTime::now());
    let keeping = keep(installer.clone(), (ready.clone(), joined), metrics.clone());
    tasks.spawn_until_stop("install", keeping);
    if let Some(node) = args.node.clone().filter(|_| args.repair) {
        let installed = Installed {
            ready: ready.clone(),
            since,
        };
        let repairing = repair::run(client.clone(), node, installed, metrics);
        tasks.spawn_until_stop("repair", repairing);
    }
    if let Some((node, taint)) = args.node.clone().zip(args.startup_taint.clone()) {
        tasks.spawn_until_stop("taint", taint::remove(client.clone(), (node, taint), ready));
    }
    tasks.finish(GRACE).await?;
    if another_comes(&client, &args).await {
        tracing::info!("the plugin stays, for whoever of us comes next");
        return Ok(());
    }
    installer
        .leave()
        .context("the plugin is still in a network configuration")?;
    tokio::time::sleep(SETTLE).await;
    installer.clean().context("the plugin is not taken away as a whole")?;
    tracing::info!("the plugin is taken away");
    Ok(())
}

fn installer(args: &InstallArgs) -> anyhow::Result<Installer> {
    Ok(Installer {
        places: Places {
            bin_dir: args.bin_dir.clone(),
            net_dir: args.net_dir.clone(),
            host_net_dir: args.host_net_dir.clone(),
        },
        program: std::env::current_exe().context("this program does not know where it is")?,
        config: args.config.clone(),
        account: Account {
            dir: args.account_dir.clone(),
            server: args.server(),
        },
        compared: OnceLock::new(),
    })
}

/// Looks again each time a file changes, and now and then.
async fn keep(installer: Installer, (ready, joined): (Readiness, watch::Sender<SystemTime>), metrics: Metrics) {
    let (changed, mut changes) = mpsc::channel(1);
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // What we read ourselves is an event too.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // One that waits already stands for all.
            let _ = changed.try_send(());
        }
    });
    let mut watcher = watcher
        .inspect_err(|error| tracing::warn!(%error, "changes of files are looked for each second"))
        .ok();
    let mut said = String::new();
    loop {
        let watched = watcher.as_mut().is_some_and(|watcher| follow(watcher, &installer));
        let looked = installer.look();
        let pause = if looked.is_ok() && watched { LOOK } else { RETRY };
        let now = match looked {
            Ok(looked) => {
                metrics.looked(if looked.written.is_empty() {
                    "in_place"
                } else {
                    "changed"
                });
                metrics.configurations(looked.joined.len(), looked.refused.len());
                for file in &looked.written {
                    tracing::info!(%file, "written");
                }
                if looked.rejoined {
                    joined.send_replace(SystemTime::now());
                }
                if !looked.joined.is_empty() {
                    ready.set();
                }
                state(&looked)
            }
            Err(error) => {
                metrics.looked("failed");
                format!("the plugin is not in place: {error}")
            }
        };
        if now != said {
            tracing::info!("{now}");
            said = now;
        }
        tokio::time::sleep(BETWEEN).await;
        let _ = tokio::time::timeout(pause, changes.recv()).await;
    }
}

fn state(looked: &crate::install::Looked) -> String {
    let list = |names: Vec<String>| names.join(", ");
    let refused = looked.refused.iter().map(|(name, why)| format!("{name} ({why})"));
    let refused = match list(refused.collect()) {
        none if none.is_empty() => String::new(),
        some => format!("; left alone: {some}"),
    };
    match list(looked.joined.iter().cloned().collect()) {
        none if none.is_empty() => format!("there is no network configuration to join yet{refused}"),
        some => format!("the plugin is in {some}{refused}"),
    }
}

/// Watches the folders that count. One that is not there yet is looked for later; says whether all are.
fn follow(watcher: &mut notify::RecommendedWatcher, installer: &Installer) -> bool {
    let config = installer.config.parent().unwrap_or(Path::new("/"));
    let places = &installer.places;
    let dirs = [&places.net_dir, &places.bin_dir, &installer.account.dir];
    let mut all = dirs.into_iter().map(|dir| dir.as_path()).chain([config]);
    // Watching again what is watched costs nothing, and finds a folder that was made anew.
    all.all(|dir| watcher.watch(dir, RecursiveMode::NonRecursive).is_ok())
}

/// Whether our DaemonSet will bring another of us to this node.
async fn another_comes(client: &Client, args: &InstallArgs) -> bool {
    let asked = async {
        let namespace = Resource::new("v1", "namespaces").get(client, &args.namespace).await?;
        let sets = Resource::new("apps/v1", "daemonsets").within(&args.namespace);
        let set = sets.get(client, &args.daemonset).await?;
        let node = match &args.node {
            Some(node) => Resource::new("v1", "nodes").get(client, node).await?,
            None => Value::Null,
        };
        Ok(Around { namespace, set, node })
    };
    match tokio::time::timeout(ASK_TIMEOUT, asked).await {
        Ok(answered) => stays(answered),
        // The node goes down, or the API server does: that is no reason to take the plugin away.
        Err(_) => true,
    }
}

/// What we are part of.
struct Around {
    namespace: Value,
    set: Value,
    node: Value,
}

/// Whether what we are part of is there and stays, for this node too.
fn stays(answered: Result<Around, SourceError>) -> bool {
    match answered {
        Ok(Around { namespace, set, node }) => {
            let goes = |object: &Value| !object["metadata"]["deletionTimestamp"].is_null();
            let wanted = set["spec"]["template"]["spec"]["nodeSelector"].as_object();
            let labels = &node["metadata"]["labels"];
            let is_wanted = node.is_null() || wanted.into_iter().flatten().all(|(key, value)| labels[key] == *value);
            !goes(&namespace) && !goes(&set) && is_wanted
        }
        // Nobody uninstalls by taking the network away; who lost its account or its rights is being uninstalled.
        Err(error) => matches!(error, SourceError::Unreachable { .. } | SourceError::Refused { .. }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn around() -> Around {
        Around {
            namespace: json!({"metadata": {"name": "linkerd-cni"}}),
            set: json!({"metadata": {"name": "linkerd-cni"},
                "spec": {"template": {"spec": {"nodeSelector": {"kubernetes.io/os": "linux"}}}}}),
            node: json!({"metadata": {"labels": {"kubernetes.io/os": "linux", "zone": "a"}}}),
        }
    }

    #[test]
    fn the_plugin_goes_only_with_its_daemonset() {
        assert!(stays(Ok(around())), "a new version, or a restart of the pod");
        let going = || json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let (mut uninstalled, mut deleted) = (around(), around());
        uninstalled.namespace = going();
        deleted.set = going();
        assert!(!stays(Ok(uninstalled)) && !stays(Ok(deleted)));
        assert!(!stays(Err(SourceError::Absent { what: "get".to_owned() })));
        assert!(!stays(Err(SourceError::Unauthorized("https://a".into()))));
        let away = SourceError::Unreachable {
            url: "https://a".into(),
            reason: "connection refused".to_owned(),
        };
        assert!(stays(Err(away)), "the node is rebooted");
    }

    #[test]
    fn the_plugin_goes_from_a_node_that_is_no_longer_chosen() {
        let mut elsewhere = around();
        elsewhere.set["spec"]["template"]["spec"]["nodeSelector"]["zone"] = "b".into();
        assert!(!stays(Ok(elsewhere)), "its pods would wait for ever for credentials");
    }
}
