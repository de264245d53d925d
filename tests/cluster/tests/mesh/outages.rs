//! Load that loses no request while parts restart or are down.
//!
//! `MESH_TESTS=long cargo test -p tests-cluster --test mesh -- outages` runs twenty restarts and ten minutes without a
//! control plane.

use std::{
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use charts_release::VERSION;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tests_cluster::{
    bed::{Bed, Needs},
    load::{Client, container},
    say, wait_for,
};

use crate::app::{App, FOLLOW, assert_joined, assert_left, now_ms, process, split};

/// Restarted application, built of parts of the demo.
const CHAIN: [&str; 3] = ["web", "emoji", "voting"];
/// Deployments of the control plane.
const CONTROL_PLANE: [&str; 3] = ["linkerd-destination", "linkerd-identity", "linkerd-proxy-injector"];
/// Time that the API server is down.
const API_AWAY: Duration = Duration::from_secs(15);

/// Tests.
pub(crate) fn tests(bed: &Arc<Bed>) -> Vec<Trial> {
    vec![bed.test("outages::nothing_is_lost", Needs::Mesh, nothing_is_lost)]
}

fn nothing_is_lost(bed: &Bed) {
    let app = App::new(bed, "mesh-outages");
    chain(&app);
    app.apply(split("v1alpha4", [json!(100), json!(0)]));
    app.serve(&[("color", 1), ("blue", 2), ("green", 2)]);
    for (name, step) in [
        ("rolling restarts", restarts as fn(&App<'_>)),
        ("the API server is away", api_server),
        ("the control plane is away", control_plane),
    ] {
        let begun = Instant::now();
        step(&app);
        say(&format!("outages: {name}: {:.1} s", begun.elapsed().as_secs_f64()));
    }
}

/// web calls emoji and voting by gRPC; two pods of each.
fn chain(app: &App<'_>) {
    let host = |name: &str| format!("http://{}:8080", app.fqdn(name));
    let (emoji, voting) = (host("emoji"), host("voting"));
    for (name, args) in [
        ("web", vec!["web", "--emoji", &emoji, "--voting", &voting]),
        ("emoji", vec!["emoji"]),
        ("voting", vec!["voting"]),
    ] {
        let (labels, mut all) = (json!({"app": name}), vec!["demo-app"]);
        all.extend(args);
        let probe = if name == "web" {
            json!({"periodSeconds": 1, "httpGet": {"path": "/ready", "port": 8080}})
        } else {
            json!({"periodSeconds": 1, "tcpSocket": {"port": 8080}})
        };
        let container = json!({"name": "app", "image": format!("localhost/mesh-app:{VERSION}"), "imagePullPolicy": "IfNotPresent",
            "args": all, "ports": [{"containerPort": 8080}], "readinessProbe": probe});
        app.apply(
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": {"replicas": 2, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}}}),
        );
        let port = if name == "web" { 80 } else { 8080 };
        app.apply(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": labels, "ports": [{"name": "http", "port": port, "targetPort": 8080}]}}),
        );
    }
}

/// Client pod of `target` that runs until it is stopped, with its target.
fn load<'a>(app: &App<'a>, name: &str, (target, seconds): (&str, u64), more: &[&str]) -> Client<'a> {
    let seconds = seconds.to_string();
    let mut args = vec![
        "load",
        target,
        "--seconds",
        &seconds,
        "--kept",
        "2",
        "--fresh",
        "1",
        "--rate",
        "20",
    ];
    args.extend(more);
    Client::start(app.cluster, app.namespace(), name, &args)
}

/// Asserts that no request failed.
fn finish(app: &App<'_>, loads: Vec<Client<'_>>) {
    for load in loads {
        let name = load.name().to_owned();
        let outcome = load.outcome(Duration::from_secs(120));
        say(&format!(
            "outages: {name}: {} requests, slowest {} ms",
            outcome.requests, outcome.max_ms
        ));
        let why = || app.bed.describe(app.namespace());
        assert!(
            outcome.requests > 0 && outcome.failures == 0,
            "{name}: {outcome:?}\n{}",
            why()
        );
    }
}

fn restarts(app: &App<'_>) {
    let rounds = if Bed::is_long() { 20 } else { 5 };
    // Rounds take as long as the cluster needs; the load ends with the first pause after its time.
    let began = Instant::now();
    let loads = || {
        let vote = ["--path", "/api/vote?choice=:crab:", "--post"];
        vec![
            load(app, "reads", ("web:80", 45), &[]),
            load(app, "writes", ("web:80", 45), &vote),
        ]
    };
    let mut running = loads();
    running.iter().for_each(Client::running);
    let mut began_load = Instant::now();
    for round in 0..rounds {
        for name in CHAIN {
            app.kubectl(&["rollout", "restart", &format!("deployment/{name}")]);
        }
        for name in CHAIN {
            app.kubectl(&["rollout", "status", &format!("deployment/{name}"), "--timeout=120s"]);
        }
        if began_load.elapsed() > Duration::from_secs(40) && round + 1 < rounds {
            finish(app, std::mem::take(&mut running));
            running = loads();
            running.iter().for_each(Client::running);
            began_load = Instant::now();
        }
    }
    say(&format!(
        "outages: {rounds} restarts in {:.1} s",
        began.elapsed().as_secs_f64()
    ));
    finish(app, running);
}

/// Stops and starts the API server: the mesh does not notice.
fn api_server(app: &App<'_>) {
    if !app.cluster.is_ours_to_stop() {
        say("SKIPPED: the API server of this cluster is not ours to stop");
        return;
    }
    let loads = vec![
        load(app, "during", ("web:80", 30), &["--path", "/api/vote?choice=:crab:"]),
        load(app, "split", ("color:80", 30), &[]),
    ];
    loads.iter().for_each(Client::running);
    app.cluster.stop("apiserver");
    sleep(API_AWAY);
    app.cluster.start("apiserver");
    finish(app, loads);
    // Changes take effect as before.
    let load = load(app, "after", ("color:80", 12), &[]);
    load.running();
    sleep(Duration::from_secs(3));
    weigh(app, [0, 100]);
    let changed = now_ms();
    let outcome = load.outcome(Duration::from_secs(60));
    assert_eq!(outcome.failures, 0, "{outcome:?}");
    assert_left(&outcome, "blue-", changed);
    weigh(app, [100, 0]);
}

fn weigh(app: &App<'_>, [blue, green]: [u32; 2]) {
    let patch = json!([{"op": "replace", "path": "/spec/backends/0/weight", "value": blue},
        {"op": "replace", "path": "/spec/backends/1/weight", "value": green}]);
    app.kubectl(&[
        "patch",
        "trafficsplit",
        "color",
        "--type=json",
        "-p",
        &patch.to_string(),
    ]);
}

/// Restarts containers and deletes endpoints while the control plane is down.
fn control_plane(app: &App<'_>) {
    let away = if Bed::is_long() { 600 } else { 60 };
    let seconds = away + 45;
    let vote = ["--path", "/api/vote?choice=:crab:", "--rare", "1"];
    let loads = vec![load(app, "votes", ("web:80", seconds), &vote)];
    let colors = load(app, "colors", ("color:80", seconds), &["--rare", "1"]);
    loads.iter().chain([&colors]).for_each(Client::running);
    sleep(Duration::from_secs(2));
    let begun = Instant::now();
    scale(app, &CONTROL_PLANE[..2], 0);
    let waiting = Client::apply(app.cluster, &bare_pod(app, "waiting"));
    wait_for("it is injected", || {
        app.field("waiting", "{.spec.initContainers[*].name}")
            .contains("linkerd-proxy")
    });
    scale(app, &CONTROL_PLANE[2..], 0);
    let orphan = Client::apply(app.cluster, &bare_pod(app, "orphan"));
    app.kubectl(&["scale", "deployment", "blue", "--replicas=1"]);
    restart_containers(app);
    let left = Duration::from_secs(away).saturating_sub(begun.elapsed());
    sleep(left);
    assert_ne!(is_ready(app, "waiting"), "True", "it has no identity yet");
    assert_eq!(is_ready(app, "orphan"), "True", "the failure policy lets it start");
    assert_eq!(
        app.field("orphan", "{.spec['initContainers','containers'][*].name}"),
        "app"
    );
    let back = return_of_the_control_plane(app);
    wait_for("the pod that waited is ready", || is_ready(app, "waiting") == "True");
    let check = app.cluster.mesh(&["check", "--proxy", "-n", app.namespace()]);
    let output = check.unwrap_or_else(|error| error);
    assert!(output.contains("orphan"), "{output}");
    drop((waiting, orphan));
    let outcome = colors.outcome(Duration::from_secs(120));
    assert_eq!(
        outcome.failures,
        0,
        "{outcome:?}\n{}",
        app.bed.describe(app.namespace())
    );
    assert_left(&outcome, "blue-", back.changed);
    assert_joined(&outcome, &back.pod, back.ready);
    finish(app, loads);
}

/// Times of the return of the control plane, in milliseconds of the clock.
struct Back {
    /// Change of the weights.
    changed: u64,
    /// New endpoint.
    pod: String,
    /// Readiness of the endpoint.
    ready: u64,
}

/// Scales all deployments back to 1: weights and new endpoints take effect at once.
fn return_of_the_control_plane(app: &App<'_>) -> Back {
    scale(app, &CONTROL_PLANE, 1);
    for name in CONTROL_PLANE {
        app.cluster.kubectl(&[
            "-n",
            "linkerd",
            "rollout",
            "status",
            &format!("deployment/{name}"),
            "--timeout=120s",
        ]);
    }
    weigh(app, [0, 100]);
    let changed = now_ms();
    say(&format!(
        "outages: weights changed; followed within {FOLLOW:?} or this fails"
    ));
    let before = app.pods("green");
    app.kubectl(&["scale", "deployment", "green", "--replicas=3"]);
    let mut pod = String::new();
    wait_for("a new endpoint is ready", || {
        let new = app.pods("green").into_iter().find(|name| !before.contains(name));
        pod = new.unwrap_or_default();
        !pod.is_empty() && is_ready(app, &pod) == "True"
    });
    let ready = now_ms();
    Back { changed, pod, ready }
}

fn scale(app: &App<'_>, deployments: &[&str], replicas: u32) {
    let mut args = vec![
        "-n".to_owned(),
        "linkerd".to_owned(),
        "scale".to_owned(),
        format!("--replicas={replicas}"),
    ];
    args.extend(deployments.iter().map(|name| format!("deployment/{name}")));
    app.cluster
        .kubectl(&args.iter().map(String::as_str).collect::<Vec<_>>());
    if replicas == 0 {
        for name in deployments {
            wait_for(&format!("{name} is gone"), || {
                let selector = format!(
                    "linkerd.io/control-plane-component={}",
                    name.trim_start_matches("linkerd-")
                );
                app.cluster
                    .kubectl(&["-n", "linkerd", "get", "pods", "-l", &selector, "-o", "name"])
                    .is_empty()
            });
        }
    }
}

fn bare_pod(app: &App<'_>, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": app.namespace()},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container(&["serve"])]}})
}

fn is_ready(app: &App<'_>, pod: &str) -> String {
    app.field(pod, "{.status.conditions[?(@.type==\"Ready\")].status}")
}

/// Kills an application and a sidecar in different pods of a Service; the kubelet restarts them.
fn restart_containers(app: &App<'_>) {
    let pods = app.pods("emoji");
    for (pod, program, container) in [(&pods[0], "mesh", "app"), (&pods[1], "mesh-proxy", "linkerd-proxy")] {
        let Some(pid) = process(pod, program) else {
            say(&format!("SKIPPED: the processes of {pod} are not on this machine"));
            continue;
        };
        let path = format!(
            "{{.status['initContainerStatuses','containerStatuses'][?(@.name==\"{container}\")].restartCount}}"
        );
        let before = app.field(pod, &path);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).expect("it runs");
        wait_for(&format!("{container} of {pod} is started again"), || {
            app.field(pod, &path) != before
        });
        wait_for(&format!("{pod} is ready again"), || is_ready(app, pod) == "True");
    }
}
