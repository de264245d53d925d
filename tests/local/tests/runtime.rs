//! `mesh local` without sidecars: pods, Services, restarts, complete cleanup.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tests_local::{Footprint, Host, Mesh, Pod, Sidecars, program, test_app, text, wait};

const APP: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: server }
spec:
  replicas: 2
  selector: { matchLabels: { app: server } }
  template:
    metadata: { labels: { app: server } }
    spec:
      terminationGracePeriodSeconds: 5
      containers:
        - name: server
          command: [MESH_TEST_APP, serve]
          ports: [{ name: http, containerPort: 8080 }]
          readinessProbe: { httpGet: { path: /, port: http } }
---
apiVersion: v1
kind: Service
metadata: { name: server }
spec: { selector: { app: server }, ports: [{ port: 80, targetPort: http }] }
---
apiVersion: v1
kind: Pod
metadata: { name: client, labels: { app: client } }
spec:
  containers:
    - name: client
      command: [sh, -c, "sleep 1000 & exec sleep 1000"]
      env: [{ name: POD_IP, valueFrom: { fieldRef: { fieldPath: status.podIP } } }]
"#;

fn get(mesh: &Mesh, target: &str) -> std::process::Output {
    mesh.exec(
        "client",
        &[
            &test_app(),
            "load",
            target,
            "--seconds",
            "1",
            "--kept",
            "0",
            "--fresh",
            "2",
        ],
    )
}

#[test]
fn up_status_exec_and_down_leave_nothing() {
    let before = Host::now();
    let mesh = Mesh::start(Sidecars::Off, &[("app.yaml", APP)]);
    let footprint = Footprint::record(mesh.supervisor(), before);
    // Process, network and mount namespace of the mesh, network and mount namespace of three pods.
    assert_eq!(footprint.namespaces(), 9, "{footprint:?}");

    let pods = mesh.pods();
    assert_eq!(pods.len(), 3);
    assert!(
        pods.iter()
            .all(|pod| pod.ready && !pod.meshed && pod.status == "Running"),
        "{pods:?}"
    );

    let said = mesh.exec(
        "client",
        &["sh", "-c", "echo $POD_IP; hostname; cat /etc/hosts; exit 7"],
    );
    assert_eq!(said.status.code(), Some(7), "{}", text(&said.stderr));
    let out = text(&said.stdout);
    let client = pods.iter().find(|pod| pod.name == "client").expect("the client");
    assert!(out.starts_with(&format!("{}\nclient\n", client.address)), "{out}");
    assert!(
        out.contains(" server.default.svc.cluster.local server.default.svc server.default server\n"),
        "{out}"
    );

    mesh.down();
    footprint.assert_gone();
}

#[test]
fn service_reaches_ready_pods_and_refuses_without_any() {
    let mesh = Mesh::start(Sidecars::Off, &[("app.yaml", APP)]);
    let output = get(&mesh, "server:80");
    let counts: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(counts["failures"], 0, "{counts}");
    assert_eq!(
        counts["pods"].as_object().map(serde_json::Map::len),
        Some(2),
        "spread over both: {counts}"
    );

    mesh.scale("default", "server", 0);
    mesh.wait("no server", || mesh.pods_of("server").is_empty());
    let begun = Instant::now();
    let refused = mesh.exec("client", &[&test_app(), "client", "tcp", "server:80"]);
    assert!(!refused.status.success());
    assert!(text(&refused.stderr).contains("refused"), "{}", text(&refused.stderr));
    assert!(begun.elapsed() < Duration::from_secs(5), "refused, not timed out");

    mesh.scale("default", "server", 1);
    mesh.wait("a server", || mesh.ready("server") == 1);
    assert!(get(&mesh, "server:80").status.success());
}

#[test]
fn restart_replaces_all_pods_and_keeps_replicas_ready() {
    let mesh = Mesh::start(Sidecars::Off, &[("app.yaml", APP)]);
    let old: Vec<_> = mesh.pods_of("server").into_iter().map(|pod| pod.name).collect();
    mesh.restart("default", "server");
    mesh.wait("new pods", || {
        let now = mesh.pods_of("server");
        let ready = now.iter().filter(|pod| pod.ready).count();
        assert!(ready >= 2, "too few ready pods: {now:?}");
        now.len() == 2 && now.iter().all(|pod| !old.contains(&pod.name))
    });
}

#[test]
fn restarts_a_container_that_exits() {
    let mesh = Mesh::start(Sidecars::Off, &[("app.yaml", APP)]);
    mesh.exec(
        "deploy/server",
        &["sh", "-c", "kill -9 $(pgrep -f mesh-test-app | head -1)"],
    );
    mesh.wait("a restart", || {
        mesh.pods_of("server").iter().any(|pod| pod.restarts == 1 && pod.ready)
    });
    mesh.wait_said("container server: killed by signal 9");
}

#[test]
fn manifest_changes_apply_live() {
    let mesh = Mesh::start(Sidecars::Off, &[("app.yaml", APP)]);
    mesh.write("app.yaml", &APP.replace("replicas: 2", "replicas: 3"));
    mesh.wait("three servers", || mesh.ready("server") == 3);
    mesh.remove("app.yaml");
    mesh.wait("no pod", || mesh.pods().is_empty());
}

#[test]
fn restart_and_scale_find_a_deployment_in_any_namespace() {
    let app = APP.replace(
        "metadata: { name: server }",
        "metadata: { name: server, namespace: shop }",
    );
    let mesh = Mesh::start(Sidecars::Off, &[("app.yaml", &app)]);
    let restarted = mesh.run(&["local", "restart", "server"]);
    assert_eq!(restarted, "Deployment shop/server restarting\n");
    let scaled = mesh.run(&["local", "scale", "deploy/server", "--replicas", "1"]);
    assert_eq!(scaled, "Deployment shop/server scaled to 1\n");
    mesh.wait("one server", || mesh.ready("server") == 1);
}

#[test]
fn runs_a_manifest_file_and_standard_input() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("app.yaml");
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: { name: one }\nspec: { containers: [{ name: c, command: [sleep, '1000'] }] }\n";
    std::fs::write(&file, pod).expect("written");
    for path in [file.to_str().expect("plain"), "-"] {
        let runtime = tempfile::tempdir().expect("a folder");
        let said = runtime.path().join("said");
        let mesh = |words: &[&str]| {
            let mut command = Command::new(program("mesh"));
            command.args(words).env("XDG_RUNTIME_DIR", runtime.path());
            command
        };
        let mut up = mesh(&["local", "up", "--no-mesh", "-f", path])
            .stdin(std::fs::File::open(&file).expect("readable"))
            .stderr(std::fs::File::create(&said).expect("a file"))
            .spawn()
            .expect("mesh runs");
        let said = || std::fs::read_to_string(&said).expect("readable");
        assert!(
            wait(Duration::from_secs(60), || said().contains("The mesh is up.")),
            "{}",
            said()
        );
        let status = mesh(&["local", "status"]).output().expect("mesh runs");
        assert!(text(&status.stdout).contains("one"), "{path}: {}", text(&status.stdout));
        assert!(mesh(&["local", "down"]).status().expect("mesh runs").success());
        assert!(up.wait().expect("a child").success());
        assert!(said().contains("stopped by `mesh local down`"), "{}", said());
    }
}

#[test]
fn status_and_logs_explain_a_pod_that_is_not_ready() {
    let app = "apiVersion: v1\nkind: Pod\nmetadata: { name: deaf }\nspec: { containers: [{ name: c, command: [sleep, '1000'], \
               readinessProbe: { tcpSocket: { port: 81 } } }] }\n---\napiVersion: v1\nkind: Pod\nmetadata: { name: missing }\n\
               spec: { containers: [{ name: c, command: [no-such-program] }] }\n";
    let mesh = Mesh::begin(Sidecars::Off, &[("app.yaml", app)], &[]);
    let status = |name: &str| {
        let output = mesh
            .command(&["local", "status", "-o", "json"])
            .output()
            .expect("mesh runs");
        let pods: Vec<Pod> = serde_json::from_slice(&output.stdout).unwrap_or_default();
        pods.into_iter().find(|pod| pod.name == name).map(|pod| pod.status)
    };
    mesh.wait("the reason", || {
        status("deaf").is_some_and(|status| status.starts_with("NotReady: connection to port 81: "))
    });
    mesh.wait("the failure", || {
        status("missing").is_some_and(|status| status.contains("no-such-program"))
    });
    let logs = mesh.command(&["local", "logs", "missing"]).output().expect("mesh runs");
    assert!(!logs.status.success());
    let said = text(&logs.stderr);
    assert!(
        said.contains("has not started: command \"no-such-program\" is not on the PATH"),
        "{said}"
    );
}

#[test]
fn crash_of_the_supervisor_leaves_nothing() {
    let before = Host::now();
    let mut mesh = Mesh::start(Sidecars::Off, &[("app.yaml", APP)]);
    let footprint = Footprint::record(mesh.supervisor(), before);
    kill(Pid::from_raw(mesh.supervisor()), Signal::SIGKILL).expect("killed");
    assert!(!mesh.up().wait().expect("a child").success(), "a crash is a failure");
    footprint.assert_gone();
    assert!(!mesh.state().exists(), "its state is removed, too");
}

#[test]
fn killing_up_stops_everything_and_down_cleans_up() {
    let before = Host::now();
    let mut mesh = Mesh::start(Sidecars::Off, &[("app.yaml", APP)]);
    let footprint = Footprint::record(mesh.supervisor(), before);
    mesh.up().kill().expect("killed");
    mesh.up().wait().expect("a child");
    footprint.assert_gone();
    assert!(mesh.state().exists(), "no process was left to remove it");
    let status = mesh.command(&["local", "status"]).output().expect("mesh runs");
    assert!(
        text(&status.stderr).contains("no mesh named"),
        "{}",
        text(&status.stderr)
    );
    let down = mesh.unnamed_command(&["local", "down"]).output().expect("mesh runs");
    assert!(down.status.success(), "{}", text(&down.stderr));
    assert!(!mesh.state().exists(), "`down` finds and removes what any mesh left");
}

#[test]
fn interrupt_and_hangup_shut_down_in_order() {
    for signal in [Signal::SIGINT, Signal::SIGHUP] {
        let before = Host::now();
        let mut mesh = Mesh::start(Sidecars::Off, &[("app.yaml", APP)]);
        let footprint = Footprint::record(mesh.supervisor(), before);
        kill(Pid::from_raw(mesh.up().id().cast_signed()), signal).expect("signalled");
        assert!(mesh.up().wait().expect("a child").success(), "{signal}");
        footprint.assert_gone();
        assert!(!mesh.state().exists(), "{signal}");
    }
}
