//! The node's startup taint: a node that comes with it gets no pod before the plugin is in place.

use std::time::Duration;

use destination_source::{
    Error,
    cluster::{Client, Resource},
};
use proxy_process::admin::Readiness;
use serde_json::{Value, json};
use tokio::time::sleep;

/// Time between two looks whether the plugin is in place.
const READY_POLL: Duration = Duration::from_millis(50);
/// Time between two tries.
const RETRY: Duration = Duration::from_secs(1);

/// Takes the taint of a name from a node once the plugin is in place; then there is nothing more to do, for ever.
pub(crate) async fn remove(client: Client, (node, key): (String, String), installed: Readiness) {
    while !installed.is_ready() {
        sleep(READY_POLL).await;
    }
    let mut said = false;
    loop {
        match try_remove(&client, &node, &key).await {
            Ok(was_there) => {
                if was_there {
                    tracing::info!(%node, taint = %key, "the node takes pods");
                }
                std::future::pending::<()>().await;
            }
            // Somebody else changed the node in between.
            Err(Error::Conflict { .. }) => {}
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(%error, taint = %key, "the taint stays on the node");
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

/// What leaves the other taints as they are; none if there is no such taint.
fn patch(node: &Value, key: &str) -> Option<Value> {
    let taints = node["spec"]["taints"].as_array()?;
    let others: Vec<&Value> = taints.iter().filter(|taint| taint["key"] != key).collect();
    // A list is replaced as a whole: not over what somebody else wrote in between.
    let version = &node["metadata"]["resourceVersion"];
    (others.len() < taints.len()).then(|| json!({"metadata": {"resourceVersion": version}, "spec": {"taints": others}}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_taint_goes_and_only_from_the_node_that_was_read() {
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
