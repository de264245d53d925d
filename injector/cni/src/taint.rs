//! Startup taint of the node: a node that registers with it gets no pods before the plugin is installed.

use std::time::Duration;

use destination_source::{
    Error,
    cluster::{Client, Resource},
};
use proxy_process::admin::Readiness;
use serde_json::{Value, json};
use tokio::time::sleep;

/// Poll interval for the plugin's readiness.
const READY_POLL: Duration = Duration::from_millis(50);
/// Pause between attempts.
const RETRY: Duration = Duration::from_secs(1);

/// Removes a taint from a node once the plugin is installed, then idles.
pub(crate) async fn remove(client: Client, node: String, key: String, installed: Readiness) {
    while !installed.is_ready() {
        sleep(READY_POLL).await;
    }
    let mut warned = false;
    loop {
        match try_remove(&client, &node, &key).await {
            Ok(was_there) => {
                if was_there {
                    tracing::info!(%node, taint = %key, "removed the startup taint");
                }
                std::future::pending::<()>().await;
            }
            // The node changed in the meantime.
            Err(Error::Conflict { .. }) => {}
            Err(error) => {
                if !std::mem::replace(&mut warned, true) {
                    tracing::warn!(%error, taint = %key, "cannot remove the startup taint");
                }
                sleep(RETRY).await;
            }
        }
    }
}

async fn try_remove(client: &Client, node: &str, key: &str) -> Result<bool, Error> {
    let nodes = Resource::new("v1", "nodes");
    let Some(patch) = patch(&nodes.get(client, node).await?, key) else {
        return Ok(false);
    };
    nodes.merge(client, node, &patch).await.map(|()| true)
}

/// Returns a patch that keeps the other taints; none if the node does not have the taint.
fn patch(node: &Value, key: &str) -> Option<Value> {
    let taints = node["spec"]["taints"].as_array()?;
    let others: Vec<&Value> = taints.iter().filter(|taint| taint["key"] != key).collect();
    // A patch replaces the whole list, so the version guards against concurrent changes.
    let version = &node["metadata"]["resourceVersion"];
    (others.len() < taints.len()).then(|| json!({"metadata": {"resourceVersion": version}, "spec": {"taints": others}}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_only_its_taint_and_only_from_the_version_read() {
        let ours = json!({"key": "linkerd.io/cni-not-ready", "effect": "NoSchedule"});
        let other = json!({"key": "spot", "effect": "NoSchedule"});
        let node = json!({"metadata": {"resourceVersion": "7"}, "spec": {"taints": [ours, other]}});
        let patch_of = |node: &Value| patch(node, "linkerd.io/cni-not-ready");
        let expected = json!({"metadata": {"resourceVersion": "7"}, "spec": {"taints": [other]}});
        assert_eq!(patch_of(&node), Some(expected));
        assert_eq!(patch_of(&json!({"spec": {"taints": [other]}})), None);
        assert_eq!(patch_of(&json!({"spec": {}})), None);
    }
}
