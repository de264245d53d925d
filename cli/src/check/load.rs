//! Facts about a cluster, fetched concurrently.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result};
use cli_check::{
    FactSource, Facts, List, ListError, ListRequest, Mode, ObjectKind, Permission, Scope, limits, view_pod,
};
use destination_source::{
    Error,
    cluster::{Access, Client, Filter, PodPort, Resource, self_subject_access_review},
};
use futures_util::{StreamExt as _, stream};
use mesh_charts::{Chart, Release};
use serde_json::Value;

use crate::kube::{self, ClusterFlags};

/// Concurrent requests; the API server could take more, but serves others too.
const AT_ONCE: usize = 8;
/// Time limit for one proxy.
const PROXY_TIMEOUT: Duration = Duration::from_secs(10);
/// Polling intervals, at first and later.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));
/// Time during which the short interval is used.
const EAGER: Duration = Duration::from_secs(30);

/// Loads facts from a cluster.
pub(crate) struct Loader {
    client: Result<Client, String>,
    scope: Scope,
    began: Instant,
    wait: Duration,
}

impl Loader {
    pub(crate) async fn new(flags: &ClusterFlags, scope: Scope, wait: Duration) -> Self {
        Self {
            client: flags.connect().await.map_err(|error| format!("{error:#}")),
            scope,
            began: Instant::now(),
            wait,
        }
    }
}

impl FactSource for Loader {
    async fn load(&mut self) -> Facts {
        let facts = Facts {
            now: SystemTime::now(),
            scope: self.scope.clone(),
            ..Facts::default()
        };
        let client = match &self.client {
            Ok(client) => client,
            Err(error) => {
                return Facts {
                    client: Err(error.clone()),
                    version: Err(error.clone()),
                    ..facts
                };
            }
        };
        let facts = Facts {
            client: Ok(client.url().to_owned()),
            version: client.version().await.map_err(|error| error.to_string()),
            ..facts
        };
        if facts.version.is_err() {
            return facts;
        }
        let lists = lists(client, self.scope.lists_to_read()).await;
        let (proxies, proxies_left) = if self.scope.proxy && self.scope.mode == Mode::Installed {
            proxies(client, &self.scope, &lists).await
        } else {
            Default::default()
        };
        Facts {
            permissions: permissions(client, self.scope.permissions()).await,
            lists,
            proxies,
            proxies_left,
            ..facts
        }
    }

    async fn pause(&mut self) -> bool {
        let spent = self.began.elapsed();
        let Some(left) = self.wait.checked_sub(spent).filter(|left| !left.is_zero()) else {
            return false;
        };
        let pause = if spent < EAGER { PAUSES.0 } else { PAUSES.1 };
        tokio::time::sleep(pause.min(left)).await;
        true
    }
}

async fn lists(client: &Client, lists_to_read: Vec<ListRequest>) -> BTreeMap<ObjectKind, List> {
    let lists = stream::iter(lists_to_read).map(|want| async move {
        let mut resource = Resource::new(want.what.api_version(), want.what.plural());
        resource.namespace = want.namespace;
        let list = resource.list(client, Filter::default()).await;
        let list = list.map_err(|error| match error {
            Error::Absent { .. } => ListError::Absent,
            error => ListError::Error(error.to_string()),
        });
        (want.what, list)
    });
    lists.buffer_unordered(AT_ONCE).collect().await
}

async fn permissions(client: &Client, queries: Vec<Permission>) -> Vec<(Permission, Result<bool, String>)> {
    let answers = stream::iter(queries).map(|permission| async move {
        let access = Access {
            verb: permission.verb.to_owned(),
            group: permission.group.to_owned(),
            resource: permission.resource.to_owned(),
            namespace: permission.namespace.clone(),
            name: permission.name.to_owned(),
            ..Access::default()
        };
        let decision = self_subject_access_review(client, &access).await;
        let allowed = decision
            .map(|decision| decision.allowed)
            .map_err(|error| error.to_string());
        (permission, allowed)
    });
    answers.buffered(AT_ONCE).collect().await
}

/// Fetches metrics of proxies by `namespace/pod`, and counts the proxies left out.
async fn proxies(
    client: &Client,
    scope: &Scope,
    lists: &BTreeMap<ObjectKind, List>,
) -> (BTreeMap<String, Result<String, String>>, usize) {
    let pods = lists.get(&ObjectKind::Pods).and_then(|list| list.as_ref().ok());
    let mut ports: Vec<PodPort> = pods.into_iter().flatten().filter_map(admin_port).collect();
    ports.retain(|port| {
        scope
            .namespace
            .as_ref()
            .is_none_or(|namespace| *namespace == port.namespace)
    });
    let left = ports.len().saturating_sub(limits::PROXIES);
    ports.truncate(limits::PROXIES);
    let answers = stream::iter(ports).map(|port| async move {
        let metrics = tokio::time::timeout(PROXY_TIMEOUT, kube::metrics(client, &port)).await;
        let metrics = match metrics {
            Ok(metrics) => metrics.map_err(|error| format!("{error:#}")),
            Err(_) => Err("timed out waiting for the sidecar".to_owned()),
        };
        (format!("{}/{}", port.namespace, port.pod), metrics)
    });
    (answers.buffer_unordered(AT_ONCE).collect().await, left)
}

/// Returns the admin port of a running pod's sidecar.
pub(crate) fn admin_port(pod: &Value) -> Option<PodPort> {
    view_pod(pod, |pod| {
        let is_running = pod.phase() == Some("Running") && pod.sidecar().is_some();
        is_running.then(|| PodPort {
            namespace: pod.namespace().to_owned(),
            pod: pod.name().to_owned(),
            port: pod.admin_port(),
        })
    })
}

/// Lists the custom resources of this program's chart, and the versions that they serve.
pub(crate) fn resources() -> Result<Vec<(String, Vec<String>)>> {
    let release = Release {
        name: "mesh".to_owned(),
        namespace: "linkerd".to_owned(),
        service: "CLI".to_owned(),
    };
    let mut found = Vec::new();
    for (file, text) in mesh_charts::render(Chart::Crds, &release, &mesh_charts::parse("")?)? {
        let object = destination_yaml::one(&text).with_context(|| format!("the chart's {file}"))?;
        let versions = object["spec"]["versions"].as_array().into_iter().flatten();
        let served = versions.filter(|version| version["served"] == true);
        found.push((
            object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
            served
                .filter_map(|version| version["name"].as_str().map(str::to_owned))
                .collect(),
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_the_versions_of_chart_resources() {
        let found = resources().expect("the chart renders");
        let splits = found.iter().find(|(name, _)| name == "trafficsplits.split.smi-spec.io");
        let (_, versions) = splits.expect("splits are a resource");
        assert_eq!(versions, &["v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4"]);
        assert!(
            found
                .iter()
                .all(|(name, versions)| name.contains('.') && !versions.is_empty())
        );
    }

    #[test]
    fn finds_the_admin_port_of_a_native_sidecar() {
        let mut pod = json!({"metadata": {"name": "p", "namespace": "a"}, "status": {"phase": "Running"},
            "spec": {"containers": [{"name": "app"}], "initContainers": [{"name": "linkerd-proxy", "restartPolicy": "Always",
                "ports": [{"name": "linkerd-admin", "containerPort": 5191}]}]}});
        assert_eq!(admin_port(&pod).map(|port| port.port), Some(5191));
        pod["status"]["phase"] = json!("Succeeded");
        assert_eq!(admin_port(&pod), None);
    }
}
