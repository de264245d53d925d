//! Kinds of workloads with a sidecar: Jobs, StatefulSets, DaemonSets, host networks, init containers with traffic, and
//! protocols other than HTTP.

use std::{sync::Arc, time::Duration};

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tests_cluster::{
    bed::{Bed, Needs},
    load::{self, Client, container},
    wait_for,
};

use crate::app::App;

/// Tests.
pub(crate) fn tests(bed: &Arc<Bed>) -> Vec<Trial> {
    vec![bed.test("workloads::every_kind", Needs::Mesh, every_kind)]
}

fn every_kind(bed: &Bed) {
    let app = App::new(bed, "mesh-workloads");
    app.cluster.apply(&speaks_first(&app));
    app.apply(kind(
        "apps/v1",
        "StatefulSet",
        "db",
        json!({"replicas": 2, "serviceName": "db", "podManagementPolicy": "Parallel"}),
    ));
    app.apply(service("db", json!({"clusterIP": "None"})));
    app.apply(kind("apps/v1", "DaemonSet", "agent", json!({})));
    app.apply(service("agent", json!({})));
    app.apply(kind(
        "batch/v1",
        "CronJob",
        "tick",
        json!({"schedule": "0 0 1 1 *", "jobTemplate": {"spec": ends("job")}}),
    ));
    app.serve(&[("client", 1)]);
    // Jobs run beside the rest.
    app.apply(json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": ends("job")}));
    app.kubectl(&["create", "job", "tock", "--from=cronjob/tick"]);
    let early = init_that_calls_out(&app);
    let outside = on_the_nodes_network(&app);
    stable_names(&app);
    every_node(&app);
    protocols(&app);
    for job in ["job", "tock"] {
        wait_for(&format!("{job} completes although it has a sidecar"), || {
            app.kubectl(&["get", "job", job, "-o", "jsonpath={.status.succeeded}"]) == "1"
        });
        let sidecars = app.kubectl(&[
            "get",
            "pods",
            "-l",
            &format!("job-name={job}"),
            "-o",
            "jsonpath={.items[*].spec['initContainers','containers'][*].name}",
        ]);
        assert!(sidecars.contains("linkerd-proxy"), "{job}: {sidecars}");
    }
    early.running();
    let log = app.kubectl(&["logs", "early", "-c", "first"]);
    let (succeeded, printed) = early.end(Duration::from_secs(60));
    assert!(succeeded, "{printed}");
    assert!(
        log.contains("\"failures\":0") && log.contains(&client_id(&app, "default")),
        "{log}"
    );
    let (succeeded, printed) = outside.end(Duration::from_secs(60));
    assert!(succeeded && printed.contains("\"failures\":0"), "{printed}");
    assert!(
        printed.contains("\"identities\":{\"\":"),
        "it has no sidecar, and no identity: {printed}"
    );
}

fn client_id(app: &App<'_>, account: &str) -> String {
    format!(
        "{account}.{}.serviceaccount.identity.linkerd.cluster.local",
        app.namespace()
    )
}

/// Workload of servers.
fn kind(version: &str, kind: &str, name: &str, mut spec: Value) -> Value {
    if kind != "CronJob" {
        let labels = json!({"app": name});
        let mut container = container(&["serve"]);
        container["readinessProbe"] = json!({"periodSeconds": 1, "httpGet": {"path": "/ready", "port": 8080}});
        spec["selector"] = json!({"matchLabels": labels});
        spec["template"] = json!({"metadata": {"labels": labels}, "spec": {"containers": [container]}});
    }
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn service(name: &str, mut spec: Value) -> Value {
    spec["selector"] = json!({"app": name});
    spec["ports"] = json!([{"name": "http", "port": 8080}]);
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

/// Spec of a Job whose container calls the server and ends.
fn ends(name: &str) -> Value {
    let mut container = container(&["load", "server:80", "--seconds", "1"]);
    container["name"] = json!(name);
    json!({"backoffLimit": 20, "template": {"spec": {"restartPolicy": "OnFailure", "containers": [container]}}})
}

/// Pod whose init container calls a server through the sidecar.
fn init_that_calls_out<'a>(app: &App<'a>) -> Client<'a> {
    let mut first = container(&["load", "server:80", "--seconds", "1"]);
    first["name"] = json!("first");
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "early", "namespace": app.namespace()},
        "spec": {"restartPolicy": "Never", "initContainers": [first], "containers": [container(&["client", "udp", "server:9002"])]}});
    Client::apply(app.cluster, &pod)
}

/// A pod in the host network gets no sidecar, and reaches meshed servers like any other client.
fn on_the_nodes_network<'a>(app: &App<'a>) -> Client<'a> {
    let address = app.kubectl(&["get", "service", "server", "-o", "jsonpath={.spec.clusterIP}"]);
    let container = container(&["load", &format!("{address}:80"), "--seconds", "1"]);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "outside", "namespace": app.namespace()},
        "spec": {"restartPolicy": "Never", "hostNetwork": true, "containers": [container]}});
    let client = Client::apply(app.cluster, &pod);
    let names = app.field("outside", "{.spec['initContainers','containers'][*].name}");
    assert_eq!(names, "app", "no sidecar");
    client
}

/// Each pod of a StatefulSet is reached by its own name, with mutual TLS.
fn stable_names(app: &App<'_>) {
    for pod in ["db-0", "db-1"] {
        let target = format!("{pod}.{}:8080", app.fqdn("db"));
        let outcome = app.load("deploy/client", &[&target, "--seconds", "1"]);
        assert_eq!(outcome.failures, 0, "{pod}: {outcome:?}");
        assert_eq!(outcome.pods.keys().collect::<Vec<_>>(), [pod], "{outcome:?}");
        assert_eq!(
            outcome.identities.keys().collect::<Vec<_>>(),
            [&client_id(app, "client")],
            "{outcome:?}"
        );
    }
    // The Service itself, which has no address, stands for all pods.
    let all = app.load(
        "deploy/client",
        &["db:8080", "--kept", "0", "--fresh", "4", "--seconds", "1"],
    );
    assert_eq!(all.failures, 0, "{all:?}");
}

fn every_node(app: &App<'_>) {
    let outcome = app.load("deploy/client", &["agent:8080", "--seconds", "1"]);
    assert_eq!(outcome.failures, 0, "{outcome:?}");
    assert_eq!(outcome.pods.keys().cloned().collect::<Vec<_>>(), app.pods("agent"));
    assert_eq!(
        outcome.identities.keys().collect::<Vec<_>>(),
        [&client_id(app, "client")]
    );
}

/// Starts two servers that speak first: one declared by an annotation, the other by a Server.
fn speaks_first(app: &App<'_>) -> String {
    let annotations = "\"annotations\":{\"config.linkerd.io/opaque-ports\":\"9001\"},";
    let by_annotation = load::server(app.namespace(), "by-annotation", 1)
        .replace(
            "\"template\":{\"metadata\":{",
            &format!("\"template\":{{\"metadata\":{{{annotations}"),
        )
        .replace(
            "\"kind\":\"Service\",\"metadata\":{",
            &format!("\"kind\":\"Service\",\"metadata\":{{{annotations}"),
        );
    let server = json!({"apiVersion": "policy.linkerd.io/v1beta3", "kind": "Server", "metadata": {"name": "greet", "namespace": app.namespace()},
        "spec": {"podSelector": {"matchLabels": {"app": "by-server"}}, "port": "greet", "proxyProtocol": "opaque", "accessPolicy": "all-unauthenticated"}});
    let udp = load::server(app.namespace(), "server", 1)
        .replace("\"args\":[\"serve\"]", "\"args\":[\"serve\",\"--udp\",\"9002\"]");
    let udp = udp.replace(
        "\"ports\":[{\"name\":\"http\",\"port\":80,",
        "\"ports\":[{\"name\":\"udp\",\"port\":9002,\"protocol\":\"UDP\"},{\"name\":\"http\",\"port\":80,",
    );
    [
        by_annotation,
        load::server(app.namespace(), "by-server", 1),
        format!("---\n{server}\n"),
        udp,
    ]
    .concat()
}

/// Other protocols pass unchanged: gRPC and uploads through the mesh, datagrams around it.
fn protocols(app: &App<'_>) {
    for client in [
        &["tcp", "by-annotation:9001", "--speaks-first"][..],
        &["tcp", "by-server:9001", "--speaks-first"],
        &["udp", "server:9002"],
        &["grpc", "server:8081"],
        &["upload", "server:80", "--bytes", "10485760"],
        &["web-socket", "server:80"],
    ] {
        let all: Vec<_> = std::iter::once("client").chain(client.iter().copied()).collect();
        app.exec("deploy/client", &all)
            .unwrap_or_else(|why| panic!("{client:?}: {why}"));
    }
    for name in ["by-annotation", "by-server"] {
        let metrics = app.metrics(&app.pods(name)[0]);
        let identity = client_id(app, "client");
        let opened = crate::app::sum(
            &metrics,
            "tcp_open_total",
            &["direction=\"inbound\"", "target_port=\"9001\"", &identity],
        );
        assert!(opened >= 1.0, "{name} is reached by mutual TLS:\n{metrics}");
    }
}
