//! Quick start of the README on Kubernetes, line by line: install, rows, uninstall.

use std::{
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use libtest_mimic::Trial;
use serde_json::Value;
use tests_cluster::{
    bed::{Bed, Needs},
    load, readme, say, wait_for,
};

/// Longest time until the output of the README appears.
const SOON: Duration = Duration::from_secs(60);
/// Namespace of the demo application.
const DEMO: &str = "vote";
/// Namespace of the README whose workloads join by an annotation.
const OWN: &str = "default";
/// Workload of a user.
const SERVER: &str = "readme-server";

/// Kinds that `kubectl get` must not find any more; namespaced ones are deleted with their namespaces and definitions.
const OURS: [&str; 7] = [
    "namespaces",
    "customresourcedefinitions",
    "clusterroles",
    "clusterrolebindings",
    "mutatingwebhookconfigurations",
    "validatingwebhookconfigurations",
    "apiservices",
];

/// Tests of the installation.
pub(crate) fn install(bed: &Arc<Bed>) -> Vec<Trial> {
    vec![
        bed.test("readme::install", Needs::Viz, check),
        bed.test("readme::demo", Needs::Viz, demo),
        bed.test("readme::split", Needs::Viz, split),
        bed.test("readme::join", Needs::Mesh, join),
    ]
}

/// Tests of the uninstallation, last: a later test would install the mesh again.
pub(crate) fn uninstall(bed: &Arc<Bed>) -> Vec<Trial> {
    vec![bed.test("readme::uninstall", Needs::Viz, gone)]
}

/// Runs a block of the README.
fn lines(bed: &Bed, name: &str) -> Result<String, String> {
    bed.cluster().shell(&readme::block(name)?)
}

/// Runs a block until its output is as expected.
fn lines_until(bed: &Bed, name: &str, what: &str, holds: impl Fn(&str) -> bool) -> String {
    let begun = Instant::now();
    loop {
        let printed = lines(bed, name).unwrap_or_else(|why| why);
        if holds(&printed) {
            return printed;
        }
        assert!(
            begun.elapsed() < SOON,
            "the README's `{name}` never {what}; at last:\n{printed}"
        );
        sleep(Duration::from_millis(500));
    }
}

/// `mesh check` succeeds as soon as the pods are ready.
fn check(bed: &Bed) {
    let printed = lines(bed, "check").unwrap_or_else(|why| panic!("{why}\n{}", bed.describe("linkerd")));
    assert!(!printed.contains('×') && !printed.contains('‼'), "{printed}");
}

/// Installs the demo application: every command of the README has output for it.
fn demo(bed: &Bed) {
    let begun = Instant::now();
    lines(bed, "app").unwrap_or_else(|why| panic!("{why}"));
    bed.ready(DEMO).unwrap_or_else(|why| panic!("{why}"));
    let stat = lines_until(bed, "stat", "has a row with a success rate per deployment", |printed| {
        let rows = ["emoji", "voting-v1", "voting-v2", "web"].map(|name| row(printed, name));
        rows.iter().all(|row| row.contains('%') && row.contains("1/1"))
    });
    say(&format!(
        "{stat}rows {:.1} s after the demo's first line",
        begun.elapsed().as_secs_f64()
    ));
    let edges = lines_until(bed, "edges", "has an edge from web to emoji", |printed| {
        printed
            .lines()
            .any(|line| line.contains("web") && line.contains("emoji"))
    });
    let secured = edges.lines().filter(|line| line.contains('√')).count();
    assert!(
        secured >= 3,
        "the edges between web, emoji and voting are secured:\n{edges}"
    );
    let tap = lines_until(bed, "tap", "shows requests", |printed| printed.lines().count() >= 5);
    assert!(tap.contains("tls=true"), "{tap}");
}

/// Row of a table that begins with a name.
fn row(table: &str, name: &str) -> String {
    let found = table.lines().find(|line| line.split_whitespace().next() == Some(name));
    found.unwrap_or_default().to_owned()
}

/// Changes the split as in the README; proxies follow it.
fn split(bed: &Bed) {
    let cluster = bed.cluster();
    lines(bed, "split").unwrap_or_else(|why| panic!("{why}"));
    let path = "jsonpath={.spec.backends[*].weight}";
    let weights = cluster.kubectl(&["-n", DEMO, "get", "trafficsplit", "voting", "-o", path]);
    assert_eq!(weights, "50 50");
    let followed = |table: &str| {
        let rate = |name: &str| rps(&row(table, name));
        rate("voting-v2") > 0.5 * rate("voting-v1")
    };
    lines_until(
        bed,
        "stat",
        "shows half of the requests at the second version",
        followed,
    );
}

/// First figure of a row that is followed by "rps", or 0.
fn rps(row: &str) -> f64 {
    let figure = row.split_whitespace().find_map(|word| word.strip_suffix("rps"));
    figure.and_then(|text| text.parse().ok()).unwrap_or(0.0)
}

/// An existing workload joins by the annotation and a restart.
fn join(bed: &Bed) {
    let cluster = bed.cluster();
    cluster.apply(&load::server(OWN, SERVER, 1));
    bed.ready(OWN).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(sidecars(bed), (0, 1));
    for name in ["annotate", "restart"] {
        lines(bed, name).unwrap_or_else(|why| panic!("{why}"));
    }
    bed.ready(OWN).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(sidecars(bed), (1, 0), "{}", bed.describe(OWN));
}

/// Numbers of pods of the workload with and without a sidecar, without terminating ones.
fn sidecars(bed: &Bed) -> (usize, usize) {
    let label = format!("app={SERVER}");
    let pods = bed
        .cluster()
        .kubectl(&["-n", OWN, "get", "pods", "-l", &label, "-o", "json"]);
    let pods: Value = serde_json::from_str(&pods).expect("JSON");
    let pods = pods["items"].as_array().expect("a list");
    let staying = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    let (with, without): (Vec<bool>, _) = staying.map(has_sidecar).partition(|has| *has);
    (with.len(), without.len())
}

fn has_sidecar(pod: &Value) -> bool {
    let containers = ["initContainers", "containers"].map(|kind| pod["spec"][kind].as_array());
    let mut containers = containers.into_iter().flatten().flatten();
    containers.any(|container| container["name"] == "linkerd-proxy")
}

/// Asserts that nothing of the mesh is left.
fn gone(bed: &Bed) {
    let cluster = bed.cluster();
    let joined = sidecars(bed);
    lines(bed, "leave").unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(sidecars(bed), (0, joined.0 + joined.1));
    lines(bed, "uninstall").unwrap_or_else(|why| panic!("{why}"));
    let objects = ["deployment", "service", "serviceaccount"].map(|kind| format!("{kind}/{SERVER}"));
    let mut delete = vec!["-n", OWN, "delete", "--ignore-not-found"];
    delete.extend(objects.iter().map(String::as_str));
    cluster.kubectl(&delete);
    cluster.kubectl(&["annotate", "namespace", OWN, "linkerd.io/inject-"]);
    let left = || -> Vec<String> {
        let found = cluster.kubectl(&["get", &OURS.join(","), "-o", "name"]);
        let ours = ["linkerd", "split.smi-spec.io", "mesh-", &format!("namespace/{DEMO}")];
        found
            .lines()
            .filter(|name| ours.iter().any(|mark| name.contains(mark)))
            .map(str::to_owned)
            .collect()
    };
    wait_for("nothing of ours is left", || left().is_empty());
    bed.forget();
}
