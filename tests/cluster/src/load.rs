//! Servers and clients in pods: `mesh-test-app`, whose load reports failures and the servers of all responses.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use serde::Deserialize;
use serde_json::{Value, json};

use charts_release::VERSION;

use crate::{Cluster, wait_for};

/// Container that runs `mesh-test-app` with these arguments.
pub fn container(args: &[&str]) -> Value {
    json!({
        "name": "app",
        "image": format!("localhost/mesh-test-app:{VERSION}"),
        "imagePullPolicy": "IfNotPresent",
        "args": args,
        "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
    })
}

/// Deployment of servers (HTTP/1 on 8080, gRPC on 8081, echo on 9000, greeting on 9001), ServiceAccount and Service.
pub fn server(namespace: &str, name: &str, replicas: u32) -> String {
    let labels = json!({"app": name});
    let mut container = container(&["serve"]);
    container["ports"] = json!([{"name": "http", "containerPort": 8080}, {"name": "grpc", "containerPort": 8081},
        {"name": "echo", "containerPort": 9000}, {"name": "greet", "containerPort": 9001}]);
    container["readinessProbe"] = json!({"periodSeconds": 1, "httpGet": {"path": "/ready", "port": "http"}});
    let metadata = json!({"name": name, "namespace": namespace, "labels": labels});
    let spec = json!({"serviceAccountName": name, "containers": [container]});
    let template = json!({"metadata": {"labels": labels}, "spec": spec});
    list(&[
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"selector": labels, "ports": [
            {"name": "http", "port": 80, "targetPort": "http"}, {"name": "grpc", "port": 8081, "targetPort": "grpc"},
            {"name": "echo", "port": 9000, "targetPort": "echo"}, {"name": "greet", "port": 9001, "targetPort": "greet"}]}}),
    ])
}

/// Text of several objects for [`Cluster::apply`].
pub fn list(objects: &[Value]) -> String {
    objects.iter().fold(String::new(), |mut text, object| {
        let _ = writeln!(text, "---\n{object}");
        text
    })
}

/// Outcome of a load.
#[derive(Debug, Deserialize)]
pub struct Outcome {
    /// Number of requests.
    pub requests: u64,
    /// Number of failed requests.
    pub failures: u64,
    /// Reasons of failures, with counts.
    pub reasons: BTreeMap<String, u64>,
    /// Servers of responses, with counts.
    pub pods: BTreeMap<String, u64>,
    /// First and last response of each, in milliseconds of the clock.
    #[serde(default)]
    pub seen_ms: BTreeMap<String, (u64, u64)>,
    /// Identities of the client that servers saw; empty for none.
    #[serde(default)]
    pub identities: BTreeMap<String, u64>,
    /// Longest latency.
    pub max_ms: u64,
    /// Start, end (in milliseconds of the clock) and server of each response, if requested.
    #[serde(default)]
    pub answers: Vec<(f64, f64, String)>,
    /// Responses beyond the limit of the record.
    #[serde(default)]
    pub unrecorded: u64,
}

impl Outcome {
    /// Number of responses from pods whose name has this prefix.
    pub fn from_pods(&self, prefix: &str) -> u64 {
        let pods = self.pods.iter().filter(|(name, _)| name.starts_with(prefix));
        pods.map(|(_, count)| count).sum()
    }
}

/// Client that runs as a pod.
#[derive(Debug)]
pub struct Client<'a> {
    cluster: &'a Cluster,
    namespace: String,
    name: String,
}

impl<'a> Client<'a> {
    /// Starts it under the `default` ServiceAccount of the namespace; `args` are those of `mesh-test-app`.
    pub fn start(cluster: &'a Cluster, namespace: &str, name: &str, args: &[&str]) -> Self {
        let metadata = json!({"name": name, "namespace": namespace, "labels": {"app": name}});
        let spec =
            json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container(args)]});
        Self::apply(
            cluster,
            &json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}),
        )
    }

    /// Starts a custom pod whose first container is `app`.
    pub fn apply(cluster: &'a Cluster, pod: &Value) -> Self {
        let text = |path: &str| pod.pointer(path).and_then(Value::as_str).expect("a name").to_owned();
        let client = Self {
            cluster,
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name"),
        };
        client.delete();
        cluster.apply(&pod.to_string());
        client
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits until its application runs.
    pub fn running(&self) {
        let path = "jsonpath={.status.containerStatuses[?(@.name==\"app\")].state}";
        let args = ["-n", &self.namespace, "get", "pod", &self.name, "-o", path];
        wait_for(&format!("{} runs", self.name), || {
            let state = self.cluster.try_kubectl(&args).unwrap_or_default();
            state.contains("running") || state.contains("terminated")
        });
    }

    /// Waits until its application ends, at most `most`; returns whether it succeeded, and its output. The pod is kept.
    pub fn end(&self, most: Duration) -> (bool, String) {
        let path = "jsonpath={.status.containerStatuses[?(@.name==\"app\")].state.terminated.exitCode}";
        let args = ["-n", &self.namespace, "get", "pod", &self.name, "-o", path];
        let mut code = String::new();
        let what = format!("{} ends", self.name);
        crate::wait_at_most(most, &what, || {
            code = self.cluster.try_kubectl(&args).unwrap_or_default();
            !code.is_empty()
        });
        let logs = self
            .cluster
            .kubectl(&["-n", &self.namespace, "logs", &self.name, "-c", "app"]);
        (code == "0", logs)
    }

    /// Waits until a load ends; returns its outcome.
    pub fn outcome(self, most: Duration) -> Outcome {
        let (_, logs) = self.end(most);
        let last = logs.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: the load printed {logs}"))
    }

    fn delete(&self) {
        let name = &self.name;
        let args = [
            "-n",
            &self.namespace,
            "delete",
            "pod",
            name,
            "--ignore-not-found",
            "--grace-period=1",
        ];
        let _ = self.cluster.try_kubectl(&args);
    }
}

impl Drop for Client<'_> {
    fn drop(&mut self) {
        let args = [
            "-n",
            &self.namespace,
            "delete",
            "pod",
            &self.name,
            "--ignore-not-found",
            "--wait=false",
        ];
        let _ = self.cluster.try_kubectl(&args);
    }
}
