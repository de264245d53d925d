//! Traffic through two sidecars: every protocol byte for byte, restarts and outages under load, live updates.
//!
//! The applications are `mesh-test-app`; their clients compare every byte themselves.

use std::{
    collections::BTreeMap,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use tests_local::{Mesh, Sidecars, test_app};

const APPS: &str = include_str!("../manifests/apps.yaml");
const COMBINED: &str = include_str!("../manifests/combined.yaml");
const SLOW: &str = include_str!("../manifests/slow.yaml");
const SPLIT: &str = include_str!("../manifests/split.yaml");

/// Duration of the control-plane outage.
const OUTAGE: Duration = Duration::from_secs(60);
/// Longest time until changes of a control plane that came back take effect.
const FOLLOW: Duration = Duration::from_secs(2);

fn start() -> Mesh {
    Mesh::start(Sidecars::On, &[("apps.yaml", APPS), ("split.yaml", SPLIT)])
}

/// Weights of the split `color`.
fn split(blue: u32, green: u32) -> String {
    let text = SPLIT.replace("service: blue, weight: 100", &format!("service: blue, weight: {blue}"));
    text.replace("service: green, weight: 0", &format!("service: green, weight: {green}"))
}

/// Load that runs alongside the test.
struct Load(Child);

impl Load {
    fn start(mesh: &Mesh, target: &str, flags: &[&str]) -> Self {
        let app = test_app();
        let argv: Vec<_> = [app.as_str(), "load", target].iter().chain(flags).copied().collect();
        let mut command: Command = mesh.exec_command("deploy/client", &argv);
        Self(command.stdout(Stdio::piped()).spawn().expect("load runs"))
    }

    /// Waits for the load to end; no request may have failed.
    fn finish(self) -> serde_json::Value {
        let counts = self.counts();
        assert_eq!(counts["failures"], 0, "{counts}");
        counts
    }

    /// Waits for the load to end.
    fn counts(self) -> serde_json::Value {
        let output = self.0.wait_with_output().expect("load ends");
        let counts: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert!(counts["requests"].as_u64().expect("a count") > 0, "{counts}");
        counts
    }
}

/// The pods that answered, with the number of answers.
fn pods(counts: &serde_json::Value) -> Vec<(String, u64)> {
    let pods = counts["pods"].as_object().expect("pods");
    pods.iter()
        .map(|(name, count)| (name.clone(), count.as_u64().expect("a count")))
        .collect()
}

/// The colors that the Service `color` answers now: `blue`, `green`, or both.
fn colors(mesh: &Mesh) -> Vec<String> {
    let app = test_app();
    let argv = [
        app.as_str(),
        "load",
        "color:80",
        "--seconds",
        "0.2",
        "--kept",
        "2",
        "--fresh",
        "1",
    ];
    let counts = mesh.exec_json("deploy/client", &argv);
    assert_eq!(counts["failures"], 0, "{counts}");
    let mut colors: Vec<_> = pods(&counts)
        .iter()
        .map(|(pod, _)| pod.split('-').next().unwrap_or_default().to_owned())
        .collect();
    colors.sort();
    colors.dedup();
    colors
}

#[test]
fn every_protocol_passes_byte_for_byte() {
    let mesh = start();
    let app = test_app();
    for client in [
        &["grpc", "server:8081"][..],
        &["web-socket", "server:80"],
        &["upload", "server:80", "--bytes", "104857600"],
        &["tcp", "server:9000"],
        &["tcp", "server:9001", "--speaks-first"],
    ] {
        let argv: Vec<_> = [app.as_str(), "client"].iter().chain(client).copied().collect();
        mesh.exec_json("deploy/client", &argv);
    }
    // The mesh carried it: both identities are known once the proxies have been scraped.
    mesh.wait("the edge from client to server", || {
        let edges = mesh.run(&["viz", "edges", "deploy", "-n", "apps", "-o", "json"]);
        let edges: serde_json::Value = serde_json::from_str(&edges).unwrap_or_default();
        let edges = edges.as_array().map(Vec::as_slice).unwrap_or_default();
        let named =
            |edge: &serde_json::Value, end: &str| edge[end].as_str().is_some_and(|id| id.starts_with("default.apps"));
        edges.iter().any(|edge| {
            edge["src"] == "client" && edge["dst"] == "server" && named(edge, "client_id") && named(edge, "server_id")
        })
    });
    mesh.down();
}

#[test]
fn restart_under_load_loses_no_request() {
    let mesh = start();
    let load = Load::start(&mesh, "server:80", &["--seconds", "12", "--kept", "4", "--fresh", "2"]);
    let posts = Load::start(
        &mesh,
        "server:80",
        &["--seconds", "12", "--kept", "2", "--fresh", "1", "--post"],
    );
    sleep(Duration::from_secs(2));
    let before: Vec<_> = mesh.pods_of("server").into_iter().map(|pod| pod.name).collect();
    mesh.restart("apps", "server");
    mesh.wait("new pods alone", || {
        let now = mesh.pods_of("server");
        now.len() == 2 && now.iter().all(|pod| pod.ready && !before.contains(&pod.name))
    });
    let counts = load.finish();
    posts.finish();
    let (old, new): (Vec<_>, Vec<_>) = pods(&counts).into_iter().partition(|(pod, _)| before.contains(pod));
    assert!(
        !old.is_empty() && !new.is_empty(),
        "the load did not span the restart: {counts}"
    );
    mesh.down();
}

#[test]
fn control_plane_outage_fails_no_request() {
    let mesh = start();
    assert_eq!(colors(&mesh), ["blue"]);
    let seconds = (OUTAGE.as_secs() + 8).to_string();
    let flags = [
        "--seconds",
        &seconds,
        "--kept",
        "2",
        "--fresh",
        "2",
        "--rare",
        "2",
        "--rate",
        "20",
    ];
    let loads = [
        Load::start(&mesh, "server:80", &flags),
        Load::start(&mesh, "color:80", &flags),
    ];
    sleep(Duration::from_secs(3));
    for deployment in ["linkerd-destination", "linkerd-identity"] {
        mesh.scale("linkerd", deployment, 0);
    }
    sleep(OUTAGE);
    for load in loads {
        load.finish();
    }
    for deployment in ["linkerd-destination", "linkerd-identity"] {
        mesh.scale("linkerd", deployment, 1);
    }
    mesh.wait("the control plane", || {
        mesh.ready("linkerd-destination") == 1 && mesh.ready("linkerd-identity") == 1
    });
    let back = Instant::now();
    mesh.write("split.yaml", &split(0, 100));
    while colors(&mesh) != ["green"] {
        assert!(
            back.elapsed() < FOLLOW,
            "not followed {FOLLOW:?} after the control plane was back"
        );
    }
    mesh.down();
}

#[test]
fn split_changes_apply_live_and_lose_no_request() {
    let mesh = start();
    let load = Load::start(&mesh, "color:80", &["--seconds", "6", "--kept", "4", "--fresh", "1"]);
    for (blue, green, expected) in [(0, 100, "green"), (100, 0, "blue"), (0, 100, "green")] {
        sleep(Duration::from_millis(300));
        mesh.write("split.yaml", &split(blue, green));
        sleep(Duration::from_secs(1));
        assert_eq!(colors(&mesh), [expected]);
    }
    load.finish();
    mesh.down();
}

#[test]
fn a_pod_that_hangs_gets_nothing_but_probes() {
    // Two workers on a machine with two cores: they share their breakers.
    let labels = "      labels: { app: client }\n";
    let workers = format!("{labels}      annotations: {{ config.linkerd.io/proxy-cpu-limit: '2' }}\n");
    let apps = APPS.replacen(labels, &workers, 1);
    let mesh = Mesh::start(Sidecars::On, &[("apps.yaml", &apps), ("slow.yaml", SLOW)]);
    let seconds = "30";
    // 200 requests a second, of which 60 are in flight.
    let flags = ["--seconds", seconds, "--kept", "80", "--fresh", "0", "--rate", "2.5"];
    let load = Load::start(&mesh, "slow:80", &flags);
    sleep(Duration::from_secs(3));
    let hung = mesh.pods_of("slow").swap_remove(0);
    let target = format!("{}:8080", hung.address);
    let once = ["--path", "/hang", "--kept", "1", "--fresh", "0", "--requests", "1"];
    Load::start(&mesh, &target, &once).finish();
    let ip = format!("target_ip=\"{}\"", hung.address);
    mesh.wait("the ejection", || {
        mesh.metric("client", "mesh_breaker_ejected", &[&ip]) == 1
    });
    let timeouts = || mesh.metric("client", "response_total", &[&ip, "error=\"timeout\""]);
    // What was in flight at the ejection has timed out by then.
    sleep(Duration::from_millis(2100));
    let before = timeouts();
    let (requests, failures) = {
        let counts = load.counts();
        let count = |what: &str| counts[what].as_u64().expect("a count");
        (count("requests"), count("failures"))
    };
    let probes = timeouts() - before;
    println!("{requests} requests, {failures} failures, {before} timeouts before the ejection, {probes} probes after");
    assert!(failures * 100 < requests, "{failures} of {requests} failed");
    // The penalties are 1, 2, 4, 8 and 16 seconds, and up to half longer.
    assert!((1..=5).contains(&probes), "{probes} probes");
    assert_eq!(
        mesh.metric("client", "mesh_breaker_ejected", &[]),
        1,
        "only the one that hangs"
    );
    assert_eq!(
        mesh.metric("client", "mesh_breaker_ejections_total", &[]),
        1,
        "by both workers at once"
    );
    mesh.down();
}

/// 200 requests a second.
const PACE: [&str; 8] = ["--seconds", "60", "--kept", "8", "--fresh", "0", "--rate", "25"];

/// Sends requests to the Service `shop`, and counts the answers of each Deployment.
fn shop(mesh: &Mesh, requests: u64, flags: &[&str]) -> (serde_json::Value, BTreeMap<String, u64>) {
    let count = requests.to_string();
    let flags = [&["--requests", count.as_str()], flags].concat();
    let counts = Load::start(mesh, "shop:80", &flags).counts();
    let mut deployments = BTreeMap::new();
    for (pod, count) in pods(&counts) {
        let deployment = pod.split('-').next().unwrap_or_default().to_owned();
        *deployments.entry(deployment).or_default() += count;
    }
    (counts, deployments)
}

/// Asserts a share of 10 % within five standard deviations, which chance exceeds once in a million.
fn assert_tenth(found: u64, all: u64) {
    let (expected, deviation) = (all as f64 * 0.1, (all as f64 * 0.09).sqrt());
    assert!((found as f64 - expected).abs() < 5.0 * deviation, "{found} of {all}");
}

#[test]
fn a_route_a_split_and_a_profile_act_together_on_one_service() {
    let mesh = Mesh::start(Sidecars::On, &[("apps.yaml", APPS), ("combined.yaml", COMBINED)]);
    let number = |counts: &serde_json::Value, what: &str| counts[what].as_u64().expect("a number");

    // The HTTPRoute by header, and the split of what it sends to the Service itself.
    let (_, of_beta) = shop(&mesh, 200, &[&PACE[..], &["--header", "x-beta: yes"]].concat());
    assert_eq!(of_beta.keys().collect::<Vec<_>>(), ["beta"]);
    let (counts, of_others) = shop(&mesh, 1000, &PACE);
    assert_eq!(number(&counts, "failures"), 0, "{counts}");
    assert_eq!(of_others.keys().collect::<Vec<_>>(), ["canary", "stable"]);
    assert_tenth(of_others["canary"], number(&counts, "requests"));

    // Half of the first attempts fail; of those, the profile's budget pays for a fifth of the requests and ten.
    let (counts, _) = shop(&mesh, 400, &[&PACE[..], &["--path", "/flaky"]].concat());
    let flaky = ["rt_route=\"flaky\""];
    let requests = mesh.metric("client", "route_response_total", &flaky);
    let retries = mesh.metric("client", "route_actual_response_total", &flaky) - requests;
    println!(
        "{requests} requests of /flaky, {retries} retries, {}",
        counts["failures"]
    );
    assert_eq!(requests, number(&counts, "requests"));
    assert!(
        (requests / 5..=requests / 5 + 11).contains(&retries),
        "{retries} retries"
    );

    // The profile's timeout, of a route that takes a second.
    let thrice = ["--path", "/slow", "--kept", "1", "--fresh", "0", "--requests", "3"];
    let counts = Load::start(&mesh, "shop:80", &thrice).counts();
    assert_eq!(number(&counts, "failures"), number(&counts, "requests"), "{counts}");
    assert!(counts["reasons"].to_string().contains("status 504"), "{counts}");
    assert!((400..900).contains(&number(&counts, "max_ms")), "{counts}");

    mesh.down();
}

#[test]
fn a_breaker_acts_under_a_split_and_a_profile() {
    // Slow pods, so that one that hangs is hardly dearer than the other; else it gets two requests, and no ejection.
    let slow = COMBINED.replace("\"serve\",", "\"serve\", \"--delay-ms\", \"300\",");
    let mesh = Mesh::start(Sidecars::On, &[("apps.yaml", APPS), ("combined.yaml", &slow)]);
    let number = |counts: &serde_json::Value, what: &str| counts[what].as_u64().expect("a number");

    // The breaker, by the timeouts of a pod that hangs; the split goes on.
    let hung = mesh.pods_of("stable").swap_remove(0);
    let once = ["--path", "/hang", "--kept", "1", "--fresh", "0", "--requests", "1"];
    Load::start(&mesh, &format!("{}:8080", hung.address), &once).finish();
    // 200 requests a second, of which 60 are in flight.
    let many = ["--seconds", "60", "--kept", "80", "--fresh", "0", "--rate", "2.5"];
    let load = Load::start(&mesh, "shop:80", &[&many[..], &["--requests", "1600"]].concat());
    let ip = format!("target_ip=\"{}\"", hung.address);
    mesh.wait("the ejection", || {
        mesh.metric("client", "mesh_breaker_ejected", &[&ip]) == 1
    });
    load.counts();
    let (counts, of_others) = shop(&mesh, 1000, &many);
    println!(
        "{} failures of {} after the ejection",
        counts["failures"], counts["requests"]
    );
    // Each is a probe; the penalties are at least 1, 2 and 4 seconds.
    assert!(number(&counts, "failures") <= 3, "{counts}");
    assert_tenth(of_others["canary"], number(&counts, "requests"));
    assert_eq!(
        mesh.metric("client", "mesh_breaker_ejected", &[]),
        1,
        "only the one that hangs"
    );
    mesh.down();
}
