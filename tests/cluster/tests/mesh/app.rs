//! Application of a scenario: a namespace whose pods get sidecars, calls from within it, and the processes of its
//! containers if the cluster is on this machine.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use tests_cluster::{
    Cluster, Namespace,
    bed::Bed,
    load::{self, Outcome},
    say,
};

/// Path of the application in its image.
const PROGRAM: &str = "/mesh-test-app";

/// Namespace of a scenario, deleted when dropped.
pub(crate) struct App<'a> {
    pub(crate) bed: &'a Bed,
    pub(crate) cluster: &'a Cluster,
    namespace: Namespace<'a>,
}

impl<'a> App<'a> {
    /// Creates a namespace whose pods get sidecars.
    pub(crate) fn new(bed: &'a Bed, name: &str) -> Self {
        let cluster = bed.cluster();
        let namespace = cluster.namespace(name);
        cluster.kubectl(&["annotate", "namespace", name, "linkerd.io/inject=enabled"]);
        Self {
            bed,
            cluster,
            namespace,
        }
    }

    /// Returns its name.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace.name
    }

    /// Runs `kubectl` in the namespace.
    pub(crate) fn kubectl(&self, args: &[&str]) -> String {
        self.try_kubectl(args)
            .unwrap_or_else(|why| panic!("{why}\n{}", self.bed.describe(self.namespace())))
    }

    pub(crate) fn try_kubectl(&self, args: &[&str]) -> Result<String, String> {
        let all: Vec<_> = ["-n", self.namespace()].iter().chain(args).copied().collect();
        self.cluster.try_kubectl(&all)
    }

    /// Starts servers by name and number, each with a Service, and waits for them.
    pub(crate) fn serve(&self, servers: &[(&str, u32)]) {
        let manifests = servers
            .iter()
            .map(|(name, replicas)| load::server(self.namespace(), name, *replicas));
        self.cluster.apply(&manifests.collect::<String>());
        self.ready();
    }

    /// Applies an object of the namespace.
    pub(crate) fn apply(&self, mut object: Value) {
        object["metadata"]["namespace"] = json!(self.namespace());
        self.cluster.apply(&object.to_string());
    }

    /// Waits until all pods are ready.
    pub(crate) fn ready(&self) {
        self.bed.ready(self.namespace()).unwrap_or_else(|why| panic!("{why}"));
    }

    /// Returns the full name of a Service.
    pub(crate) fn fqdn(&self, service: &str) -> String {
        format!("{service}.{}.svc.cluster.local", self.namespace())
    }

    /// Runs the test application in a running container `app`.
    pub(crate) fn exec(&self, from: &str, args: &[&str]) -> Result<String, String> {
        let mut all = vec!["exec", from, "-c", "app", "--", PROGRAM];
        all.extend(args);
        self.try_kubectl(&all)
    }

    /// Runs a load in a container.
    pub(crate) fn load(&self, from: &str, args: &[&str]) -> Outcome {
        let all: Vec<_> = std::iter::once("load").chain(args.iter().copied()).collect();
        let printed = self.exec(from, &all).unwrap_or_else(|why| panic!("{why}"));
        let last = printed.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {printed}"))
    }

    /// Runs a load with arguments separated by blanks.
    pub(crate) fn words(&self, from: &str, words: &str) -> Outcome {
        self.load(from, &words.split_whitespace().collect::<Vec<_>>())
    }

    /// Returns the names of running pods of an application.
    pub(crate) fn pods(&self, app: &str) -> Vec<String> {
        let pods = self.kubectl(&["get", "pods", "-l", &format!("app={app}"), "-o", "json"]);
        let pods: Value = serde_json::from_str(&pods).expect("JSON");
        let pods = pods["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let staying = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        staying
            .filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned))
            .collect()
    }

    /// Returns a field of a pod.
    pub(crate) fn field(&self, pod: &str, path: &str) -> String {
        self.kubectl(&["get", "pod", pod, "-o", &format!("jsonpath={path}")])
    }

    /// Returns the metrics of the sidecar of a pod.
    pub(crate) fn metrics(&self, pod: &str) -> String {
        let path = format!("/api/v1/namespaces/{}/pods/{pod}:4191/proxy/metrics", self.namespace());
        self.cluster.kubectl(&["get", "--raw", &path])
    }
}

/// Sums the samples of a family with all of these labels.
pub(crate) fn sum(metrics: &str, family: &str, labels: &[&str]) -> f64 {
    let samples = metrics
        .lines()
        .filter_map(|line| line.strip_prefix(family)?.strip_prefix('{'));
    let fitting = samples.filter(|sample| labels.iter().all(|label| sample.contains(label)));
    fitting
        .filter_map(|sample| sample.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// Milliseconds of the clock, as in loads.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Process of this name in the containers of a pod, if the node is this machine.
pub(crate) fn process(pod: &str, name: &str) -> Option<i32> {
    let host = format!("HOSTNAME={pod}");
    let all = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .find(|pid: &i32| {
            let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            read("comm").trim_ascii_end() == name.as_bytes()
                && read("environ")
                    .split(|byte| *byte == 0)
                    .any(|variable| variable == host.as_bytes())
        })
}

/// TrafficSplit of the application, with weights in the form of its version.
pub(crate) fn split(version: &str, weights: [Value; 2]) -> Value {
    let [blue, green] = weights;
    json!({
        "apiVersion": format!("split.smi-spec.io/{version}"), "kind": "TrafficSplit", "metadata": {"name": "color"},
        "spec": {"service": "color", "backends": [{"service": "blue", "weight": blue}, {"service": "green", "weight": green}]},
    })
}

/// Longest time until a change takes effect.
pub(crate) const FOLLOW: Duration = Duration::from_secs(2);

/// Asserts that after `changed_ms` the pods with `prefix` responded for no longer than a change may take.
pub(crate) fn assert_left(outcome: &Outcome, prefix: &str, changed_ms: u64) {
    let last = outcome
        .seen_ms
        .iter()
        .filter(|(pod, _)| pod.starts_with(prefix))
        .map(|(_, seen)| seen.1)
        .max();
    let late = last.unwrap_or(0).saturating_sub(changed_ms);
    assert!(
        u128::from(late) < FOLLOW.as_millis(),
        "{prefix} answered for {late} ms after the change: {outcome:?}"
    );
}

/// Asserts that a ready pod got its first request within the time that a change may take.
pub(crate) fn assert_joined(outcome: &Outcome, pod: &str, ready_ms: u64) {
    let first = outcome.seen_ms.get(pod).map(|seen| seen.0);
    let first = first.unwrap_or_else(|| panic!("{pod} never answered: {outcome:?}"));
    let late = first.saturating_sub(ready_ms);
    say(&format!("{pod} answered {late} ms after it was ready"));
    assert!(
        u128::from(late) < FOLLOW.as_millis(),
        "{pod} answered first {late} ms after it was ready: {outcome:?}"
    );
}
