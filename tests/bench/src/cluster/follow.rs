//! Time from a change in the cluster to the first request that follows it: a client sends a thousand requests a second
//! through its sidecar and records the server of each; meanwhile weights and endpoints are patched.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::{Value, json};
use tests_cluster::{
    Cluster,
    bed::Bed,
    load::{self, Outcome},
};
use tokio::{runtime::Runtime, time::sleep};

use super::{
    patch::Api,
    rows::{Row, quantile},
};

const NAMESPACE: &str = "mesh-bench";
/// Connections, and requests per second on each.
const LOAD: [&str; 6] = ["--kept", "16", "--fresh", "0", "--rate", "62.5"];
/// Time for the load to start, and for the last change to take effect.
const AROUND: Duration = Duration::from_secs(3);
/// Time between two changes; not a multiple of anything in the load.
const BETWEEN: Duration = Duration::from_millis(213);
/// Milliseconds by which the mesh may know of a change before the API server has responded to us.
const BEFORE: f64 = 20.0;

/// A change: the time of the API server's response, and the server that starts or stops getting requests.
struct Change {
    at: f64,
    to: &'static str,
}

/// Measures a number of changes of each kind.
pub(super) fn measure(bed: &Bed, changes: usize) -> Result<Vec<Row>> {
    let cluster = bed.cluster();
    let namespace = cluster.namespace(NAMESPACE);
    cluster
        .try_kubectl(&["annotate", "namespace", NAMESPACE, "linkerd.io/inject=enabled"])
        .map_err(anyhow::Error::msg)?;
    let servers = ["color", "blue", "green", "client"].map(|name| load::server(NAMESPACE, name, 1));
    cluster.apply(&servers.concat());
    bed.ready(NAMESPACE).map_err(anyhow::Error::msg)?;
    let addresses = [endpoint(cluster, "blue")?, endpoint(cluster, "green")?];
    cluster.apply(&load::list(&[split(100), pool(), slice(&addresses)]));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let api = runtime.block_on(Api::connect(cluster))?;
    let mut bench = Bench {
        cluster,
        runtime,
        api,
        changes,
    };
    let path = format!("/apis/split.smi-spec.io/v1alpha4/namespaces/{NAMESPACE}/trafficsplits/color");
    let seen = bench.run("color:80", |green| {
        let split = split(if green { 0 } else { 100 });
        (path.clone(), json!({"spec": split["spec"]}))
    });
    let mut rows = by_weights(&seen?);
    let path = format!("/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices/pool");
    let seen = bench.run("pool:80", |green| {
        let listed = if green { &addresses[..] } else { &addresses[..1] };
        (path.clone(), json!({"endpoints": listed}))
    });
    rows.extend(by_endpoints(&seen?));
    drop(namespace);
    // The mesh does not go while there are sidecars.
    let gone = cluster.try_kubectl(&["wait", "namespace", NAMESPACE, "--for=delete", "--timeout=120s"]);
    gone.map_err(anyhow::Error::msg)?;
    Ok(rows)
}

/// Responses of a load, and the changes during it.
struct Seen {
    outcome: Outcome,
    changes: Vec<Change>,
}

/// Patches objects while a client sends requests.
struct Bench<'a> {
    cluster: &'a Cluster,
    runtime: Runtime,
    api: Api,
    changes: usize,
}

impl Bench<'_> {
    /// Sends requests and patches back and forth meanwhile: `patch` returns path and merge patch, to green or back.
    fn run(&mut self, target: &str, patch: impl Fn(bool) -> (String, Value)) -> Result<Seen> {
        let length = (AROUND * 2 + BETWEEN * 2 * self.changes as u32)
            .as_secs_f64()
            .to_string();
        let exec = [
            "-n",
            NAMESPACE,
            "exec",
            "deploy/client",
            "-c",
            "app",
            "--",
            "/mesh-test-app",
            "load",
            "--record",
        ];
        let args: Vec<&str> = exec
            .into_iter()
            .chain(LOAD)
            .chain(["--seconds", &length, target])
            .collect();
        let (cluster, api, turns) = (self.cluster, &mut self.api, self.changes * 2);
        let patches = async {
            let mut seen = vec![];
            sleep(AROUND).await;
            for turn in 0..turns {
                let green = turn % 2 == 0;
                let (path, body) = patch(green);
                let at = api.merge(&path, &body).await?;
                let to = if green { "green-" } else { "blue-" };
                seen.push(Change { at, to });
                sleep(BETWEEN).await;
            }
            anyhow::Ok(seen)
        };
        let (printed, changes) = thread::scope(|scope| {
            let load = scope.spawn(|| cluster.try_kubectl(&args));
            let changes = self.runtime.block_on(patches);
            (load.join(), changes)
        });
        let printed = printed
            .map_err(|_| anyhow!("the load panicked"))?
            .map_err(anyhow::Error::msg)?;
        let outcome: Outcome =
            serde_json::from_str(printed.lines().last().unwrap_or_default()).context("the load prints no outcome")?;
        ensure!(
            outcome.failures == 0 && outcome.unrecorded == 0,
            "{} requests failed: {:?}; {} were not recorded",
            outcome.failures,
            outcome.reasons,
            outcome.unrecorded
        );
        let changes = changes?;
        Ok(Seen { outcome, changes })
    }
}

impl Seen {
    /// Changes with the responses until the next.
    fn spans(&self) -> impl Iterator<Item = (&Change, Vec<&(f64, f64, String)>)> {
        self.changes.iter().enumerate().map(|(n, change)| {
            let from = change.at - BEFORE;
            let until = self.changes.get(n + 1).map_or(f64::MAX, |next| next.at - BEFORE);
            let within = self
                .outcome
                .answers
                .iter()
                .filter(move |(_, end, _)| *end > from && *end <= until);
            (change, within.collect())
        })
    }
}

/// First request by new weights, and those by old ones after it.
fn by_weights(seen: &Seen) -> Vec<Row> {
    let (mut first, mut late, mut never) = (vec![], 0, 0);
    for (change, answers) in seen.spans() {
        let follows = answers.iter().filter(|(_, _, pod)| pod.starts_with(change.to));
        match follows.map(|(_, end, _)| *end).reduce(f64::min) {
            Some(end) => {
                first.push((end - change.at).max(0.0));
                late += answers
                    .iter()
                    .filter(|(begin, _, pod)| *begin > end && !pod.starts_with(change.to))
                    .count();
            }
            None => never += 1,
        }
    }
    let name = "weights patched → first request that follows";
    vec![
        Row::new(format!("{name}, p50"), quantile(first.clone(), 0.5), "ms")
            .most(2.9)
            .upstream("2.9"),
        Row::new(format!("{name}, p99"), quantile(first, 0.99), "ms")
            .most(14.0)
            .upstream("14"),
        Row::new("requests by old weights after that", late as f64, "")
            .most(0.0)
            .upstream("0"),
        Row::new("changes that were not followed in time", f64::from(never), "").most(0.0),
    ]
}

/// First request to an added endpoint, and last request to a removed one.
fn by_endpoints(seen: &Seen) -> Vec<Row> {
    let (mut first, mut last) = (vec![], vec![]);
    for (change, answers) in seen.spans() {
        let green = answers.iter().filter(|(_, _, pod)| pod.starts_with("green-"));
        if change.to == "green-" {
            let end = green.map(|(_, end, _)| *end).reduce(f64::min);
            first.push(end.map_or(f64::MAX, |end| (end - change.at).max(0.0)));
        } else {
            let begin = green.map(|(begin, _, _)| *begin).reduce(f64::max);
            last.push(begin.map_or(0.0, |begin| (begin - change.at).max(0.0)));
        }
    }
    vec![
        Row::new(
            "endpoint added → first request, p50",
            quantile(first.clone(), 0.5),
            "ms",
        )
        .most(20.0)
        .upstream("20"),
        Row::new("endpoint added → first request, p99", quantile(first, 0.99), "ms"),
        Row::new(
            "endpoint removed → last request, p50",
            quantile(last.clone(), 0.5),
            "ms",
        )
        .most(0.7)
        .upstream("0.7"),
        Row::new("endpoint removed → last request, p99", quantile(last, 0.99), "ms"),
    ]
}

/// Address of the only pod of an application, in the form of an EndpointSlice.
fn endpoint(cluster: &Cluster, app: &str) -> Result<Value> {
    let pods = cluster.try_kubectl(&[
        "-n",
        NAMESPACE,
        "get",
        "pods",
        "-l",
        &format!("app={app}"),
        "-o",
        "json",
    ]);
    let pods: Value = serde_json::from_str(&pods.map_err(anyhow::Error::msg)?)?;
    let pod = &pods["items"][0];
    Ok(json!({
        "addresses": [pod["status"]["podIP"]],
        "conditions": {"ready": true, "serving": true, "terminating": false},
        "nodeName": pod["spec"]["nodeName"],
        "targetRef": {"kind": "Pod", "name": pod["metadata"]["name"], "namespace": NAMESPACE},
    }))
}

fn split(blue: u32) -> Value {
    json!({"apiVersion": "split.smi-spec.io/v1alpha4", "kind": "TrafficSplit",
        "metadata": {"name": "color", "namespace": NAMESPACE},
        "spec": {"service": "color", "backends": [
            {"service": "blue", "weight": blue}, {"service": "green", "weight": 100 - blue}]}})
}

/// Service whose endpoints no controller writes.
fn pool() -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "pool", "namespace": NAMESPACE},
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080}]}})
}

fn slice(endpoints: &[Value]) -> Value {
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "pool", "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": "pool"}},
        "endpoints": &endpoints[..1], "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(answers: &[(f64, f64, &str)], changes: &[(f64, &'static str)]) -> Seen {
        let answers: Vec<_> = answers.iter().map(|(b, e, pod)| json!([b, e, pod])).collect();
        let outcome = json!({"requests": 0, "failures": 0, "reasons": {}, "pods": {}, "max_ms": 0, "answers": answers});
        Seen {
            outcome: serde_json::from_value(outcome).expect("an outcome"),
            changes: changes.iter().map(|(at, to)| Change { at: *at, to }).collect(),
        }
    }

    fn figures(rows: &[Row]) -> String {
        serde_json::to_string(
            &rows
                .iter()
                .map(|row| serde_json::to_value(row).expect("JSON")["ours"].clone())
                .collect::<Vec<_>>(),
        )
        .expect("JSON")
    }

    #[test]
    fn changes_are_followed_by_requests() {
        // The second change is known to the mesh before we hear of it; one request comes late by old weights.
        let answers = [
            (990.0, 999.0, "blue-1"),
            (1001.0, 1004.0, "green-1"),
            (1005.0, 1006.0, "blue-1"),
            (1195.0, 1199.0, "blue-1"),
        ];
        let changes = [(1000.0, "green-"), (1200.0, "blue-")];
        assert_eq!(figures(&by_weights(&seen(&answers, &changes))), "[4.0,4.0,1.0,0.0]");
        let answers = [
            (1001.0, 1010.0, "green-1"),
            (1200.5, 1202.0, "green-1"),
            (1201.0, 1203.0, "blue-1"),
        ];
        assert_eq!(figures(&by_endpoints(&seen(&answers, &changes))), "[10.0,10.0,0.5,0.5]");
    }
}
