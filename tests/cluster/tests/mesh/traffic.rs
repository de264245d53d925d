//! Traffic between meshed pods: mutual TLS, splits, profiles, policy.

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
    load::{self, Client, Outcome, list},
    say, wait_for,
};

use crate::app::{App, assert_left, now_ms, split, sum};

/// Requests of a split, and its allowed deviation.
const REQUESTS: u32 = 10_000;
const OFF: f64 = 0.015;

/// Tests.
pub(crate) fn tests(bed: &Arc<Bed>) -> Vec<Trial> {
    vec![bed.test("traffic::an_application_of_three_services", Needs::Mesh, application)]
}

fn application(bed: &Bed) {
    let app = App::new(bed, "mesh-traffic");
    app.cluster.apply(&[vault(&app), plain(&app)].concat());
    app.serve(&[("color", 1), ("blue", 1), ("green", 1), ("client", 1), ("other", 1)]);
    for (name, step) in [
        ("mutual TLS", mutual_tls as fn(&App<'_>)),
        ("splits", splits),
        ("timeout and retries", profile),
        ("authorization", authorization),
        ("statuses", statuses),
    ] {
        let begun = Instant::now();
        step(&app);
        say(&format!("traffic: {name}: {:.1} s", begun.elapsed().as_secs_f64()));
    }
}

/// Starts a client without a sidecar.
fn plain(app: &App<'_>) -> String {
    load::server(app.namespace(), "plain", 1).replace(
        "\"template\":{\"metadata\":{",
        "\"template\":{\"metadata\":{\"annotations\":{\"linkerd.io/inject\":\"disabled\"},",
    )
}

/// Starts a server that denies all requests without a policy.
fn vault(app: &App<'_>) -> String {
    load::server(app.namespace(), "vault", 1).replace(
        "\"template\":{\"metadata\":{",
        "\"template\":{\"metadata\":{\"annotations\":{\"config.linkerd.io/default-inbound-policy\":\"deny\"},",
    )
}

/// Packets on the interfaces of the node do not reveal requests of a meshed client, but do those of another.
fn mutual_tls(app: &App<'_>) {
    let capture = |name: &str, marker: &str| {
        json!({"name": name, "image": format!("localhost/mesh-app:{VERSION}"), "imagePullPolicy": "IfNotPresent",
            "args": ["demo-app", "capture", "--marker", marker, "--seconds", "12"],
            "securityContext": {"privileged": true, "runAsUser": 0}})
    };
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "capture", "namespace": app.namespace()},
        "spec": {"hostNetwork": true, "restartPolicy": "Never",
            "containers": [capture("app", "secret-path-of-a-meshed-client"), capture("plain", "open-path-of-another")]}});
    let captured = Client::apply(app.cluster, &pod);
    captured.running();
    let meshed = app.load(
        "deploy/client",
        &["blue:80", "--path", "/secret-path-of-a-meshed-client", "--seconds", "2"],
    );
    let other = app.load(
        "deploy/plain",
        &["blue:80", "--path", "/open-path-of-another", "--seconds", "2"],
    );
    assert_eq!((meshed.failures, other.failures), (0, 0), "{meshed:?} {other:?}");
    let client = format!(
        "client.{}.serviceaccount.identity.linkerd.cluster.local",
        app.namespace()
    );
    assert_eq!(meshed.identities.keys().collect::<Vec<_>>(), [&client]);
    assert_eq!(other.identities.keys().collect::<Vec<_>>(), [""]);
    let (_, secret) = captured.end(Duration::from_secs(40));
    let open = app.kubectl(&["logs", "capture", "-c", "plain"]);
    let marked = |report: &str| -> u64 {
        let report: Value = serde_json::from_str(report).unwrap_or_else(|error| panic!("{error}: {report}"));
        // The loopback of the node carries traffic of Kubernetes itself, which includes the command run here.
        let interfaces = report
            .as_object()
            .expect("interfaces")
            .iter()
            .filter(|(name, _)| *name != "lo");
        interfaces.filter_map(|(_, seen)| seen["marked"].as_u64()).sum()
    };
    assert_eq!(marked(&secret), 0, "{secret}");
    assert!(marked(&open) >= other.requests, "the capture sees what is open: {open}");
    let identity = sum(
        &app.metrics(&app.pods("blue")[0]),
        "response_total",
        &[r#"tls="true""#, &client],
    );
    assert!(identity >= meshed.requests as f64, "{identity}");
}

/// Applies each version of the resource, with weights in its form.
fn splits(app: &App<'_>) {
    let requests = REQUESTS.to_string();
    let versions = [
        ("v1alpha1", [json!("900m"), json!("100m")], 0.9),
        ("v1alpha2", [json!(300), json!(700)], 0.3),
        ("v1alpha4", [json!(60), json!(40)], 0.6),
    ];
    for (version, weights, expected) in versions {
        app.apply(split(version, weights));
        sleep(Duration::from_secs(1));
        let args = [
            "color:80",
            "--kept",
            "16",
            "--fresh",
            "0",
            "--rate",
            "2000",
            "--seconds",
            "60",
            "--requests",
            &requests,
        ];
        let outcome = app.load("deploy/client", &args);
        assert_eq!(outcome.failures, 0, "{outcome:?}");
        let share = outcome.from_pods("blue-") as f64 / outcome.requests as f64;
        say(&format!(
            "traffic: {version}: {:.2} % of {} at blue",
            share * 100.0,
            outcome.requests
        ));
        assert!((share - expected).abs() <= OFF, "{version}: {share} is not {expected}");
    }
    follow(app);
}

/// A patched weight takes effect during a load.
fn follow(app: &App<'_>) {
    app.apply(split("v1alpha4", [json!(100), json!(0)]));
    sleep(Duration::from_secs(1));
    let changed = std::thread::scope(|scope| {
        let load = scope.spawn(|| app.load("deploy/client", &["color:80", "--kept", "4", "--seconds", "5"]));
        sleep(Duration::from_secs(2));
        let patch = r#"[{"op": "replace", "path": "/spec/backends/0/weight", "value": 0},
            {"op": "replace", "path": "/spec/backends/1/weight", "value": 100}]"#;
        app.kubectl(&["patch", "trafficsplit", "color", "--type=json", "-p", patch]);
        let changed = now_ms();
        (load.join().expect("no panic"), changed)
    });
    let (outcome, changed) = changed;
    assert_eq!(outcome.failures, 0, "{outcome:?}");
    assert!(
        outcome.from_pods("blue-") > 0 && outcome.from_pods("green-") > 0,
        "{outcome:?}"
    );
    assert_left(&outcome, "blue-", changed);
}

/// ServiceProfile as in common guides: a timeout, a budget of the profile, and one of a route.
fn profile(app: &App<'_>) {
    let route = |name: &str| json!({"name": name, "condition": {"pathRegex": format!("/{name}")}});
    let (mut slow, mut fail, mut flaky) = (route("slow"), route("fail"), route("flaky"));
    slow["timeout"] = json!("200ms");
    fail["isRetryable"] = json!(true);
    // A budget of a route is its own, and makes it retryable.
    flaky["retryBudget"] = json!({"retryRatio": 1.0, "minRetriesPerSecond": 100, "ttl": "10s"});
    app.apply(json!({
        "apiVersion": "linkerd.io/v1alpha2", "kind": "ServiceProfile", "metadata": {"name": app.fqdn("blue")},
        "spec": {"routes": [slow, fail, flaky], "retryBudget": {"retryRatio": 0.2, "minRetriesPerSecond": 1, "ttl": "10s"}},
    }));
    sleep(Duration::from_secs(1));
    let slow = app.words(
        "deploy/client",
        "blue:80 --path /slow --kept 1 --fresh 0 --rate 2 --seconds 2",
    );
    let timed_out = failures_with(&slow, "504");
    assert!(timed_out == slow.requests && slow.max_ms >= 200, "{slow:?}");
    retries(app);
}

/// Number of requests of a load that failed with this status.
fn failures_with(outcome: &Outcome, status: &str) -> u64 {
    let told = format!("status {status}");
    let reasons = outcome.reasons.iter().filter(|(reason, _)| reason.contains(&told));
    reasons.map(|(_, count)| count).sum()
}

/// Retries stay within the budget of the profile, or of the route if it has one.
fn retries(app: &App<'_>) {
    let load = |path: &str| {
        let words = format!("blue:80 --path {path} --kept 4 --fresh 0 --rate 25 --seconds 4");
        app.words("deploy/client", &words)
    };
    let client = app.pods("client").remove(0);
    let count = |family: &str| sum(&app.metrics(&client), family, &[r#"rt_route="fail""#]);
    let failing = load("/fail");
    assert_eq!(failing.failures, failing.requests, "{failing:?}");
    let (asked, sent) = (count("route_response_total"), count("route_actual_response_total"));
    // The ratio of the budget, and its minimum within the ttl.
    let most = asked * 1.2 + 10.0 + 1.0;
    say(&format!(
        "traffic: {asked} requests that fail were sent {sent} times, {most} are allowed"
    ));
    assert!(
        asked >= failing.requests as f64 && sent > asked * 1.05 && sent <= most,
        "{asked} {sent}"
    );
    let flaky = load("/flaky");
    assert!(
        flaky.failures == 0 && flaky.requests > 50,
        "a route's own budget holds: {flaky:?}"
    );
}

/// All requests are denied, then those of one client allowed; probes of the kubelet always are.
fn authorization(app: &App<'_>) {
    let ready = || app.kubectl(&["get", "deploy", "vault", "-o", "jsonpath={.status.readyReplicas}"]) == "1";
    assert!(ready(), "probes pass although all requests are denied");
    let short = ["vault:80", "--kept", "1", "--fresh", "1", "--seconds", "1"];
    let ask = |from: &str| app.load(from, &short);
    let denied = ask("deploy/client");
    assert_eq!(denied.failures, denied.requests, "{denied:?}");
    let group = "policy.linkerd.io";
    let server = json!({"apiVersion": format!("{group}/v1beta3"), "kind": "Server", "metadata": {"name": "vault", "namespace": app.namespace()},
        "spec": {"podSelector": {"matchLabels": {"app": "vault"}}, "port": "http", "proxyProtocol": "HTTP/1"}});
    let policy = json!({"apiVersion": format!("{group}/v1alpha1"), "kind": "AuthorizationPolicy",
        "metadata": {"name": "vault", "namespace": app.namespace()},
        "spec": {"targetRef": {"group": group, "kind": "Server", "name": "vault"},
            "requiredAuthenticationRefs": [{"kind": "ServiceAccount", "name": "client", "namespace": app.namespace()}]}});
    app.cluster.apply(&list(&[server, policy]));
    wait_for("the one client is let in", || ask("deploy/client").failures == 0);
    for from in ["deploy/other", "deploy/plain"] {
        let refused = ask(from);
        let forbidden = failures_with(&refused, "403");
        assert!(forbidden == refused.requests && forbidden > 0, "{from}: {refused:?}");
    }
    // Longer than three failures of the probe would take.
    sleep(Duration::from_secs(4));
    let pod = app.pods("vault").remove(0);
    let restarts = app.field(&pod, "{.status.containerStatuses[?(@.name==\"app\")].restartCount}");
    assert!(ready() && restarts == "0", "the probes still pass");
    assert_eq!(ask("deploy/client").failures, 0);
}

/// The holder of the lease writes the status of a route, and updates it after changes.
fn statuses(app: &App<'_>) {
    let route = |backend: &str| {
        let parent = |name: &str| json!({"group": "core", "kind": "Service", "name": name, "port": 80});
        json!({"apiVersion": "policy.linkerd.io/v1beta3", "kind": "HTTPRoute", "metadata": {"name": "status"},
            "spec": {"parentRefs": [parent("green"), parent("missing")],
                "rules": [{"matches": [{"path": {"value": "/never-asked"}}], "backendRefs": [{"name": backend, "port": 80}]}]}})
    };
    // Reasons of each parent, by name.
    let told = || -> String {
        let args = ["get", "httproutes.policy.linkerd.io", "status", "-o", "json"];
        let found: Value = serde_json::from_str(&app.kubectl(&args)).expect("JSON");
        let parents = found["status"]["parents"].as_array().cloned().unwrap_or_default();
        let parent = |parent: &Value| {
            let conditions = parent["conditions"].as_array().cloned().unwrap_or_default();
            let words = conditions.iter().map(|c| format!("{}={}", c["type"], c["reason"]));
            format!(
                "{}: {}",
                parent["parentRef"]["name"],
                words.collect::<Vec<_>>().join(" ")
            )
        };
        parents
            .iter()
            .map(parent)
            .collect::<Vec<_>>()
            .join("; ")
            .replace('"', "")
    };
    for (backend, reason) in [("gone", "BackendNotFound"), ("blue", "ResolvedRefs")] {
        app.apply(route(backend));
        let expected = format!(
            "green: Accepted=Accepted ResolvedRefs={reason}; missing: Accepted=NoMatchingParent ResolvedRefs={reason}"
        );
        let mut last = String::new();
        let begun = Instant::now();
        while last != expected && begun.elapsed() < Duration::from_secs(10) {
            last = told();
            sleep(Duration::from_millis(200));
        }
        assert_eq!(last, expected);
    }
    app.kubectl(&["delete", "httproutes.policy.linkerd.io", "status"]);
}
