//! Bad input: each case gives one sentence that names the file or flag, and the rest keeps working.

use std::{
    net::TcpListener,
    process::{Command, Output},
};

use tests_local::{Mesh, Pod, Sidecars, program, text};

const GOOD: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: good }
spec: { containers: [{ name: c, command: [sleep, "1000"] }] }
"#;

fn sentence(output: &Output) -> String {
    let said = text(&output.stderr);
    assert!(!output.status.success(), "it should have failed: {said}");
    assert_eq!(said.trim().lines().count(), 1, "one sentence: {said}");
    said
}

fn up(flags: &[&str]) -> Output {
    let runtime = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(program("mesh"));
    command
        .args(["local", "up"])
        .args(flags)
        .env("XDG_RUNTIME_DIR", runtime.path());
    let output = command.output().expect("mesh runs");
    let left = std::fs::read_dir(runtime.path()).expect("readable").count();
    assert_eq!(left, 0, "a failed start leaves nothing: {}", text(&output.stderr));
    output
}

#[test]
fn invalid_flags_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().to_str().expect("plain");
    let said = sentence(&up(&["-f", "/no/such/folder"]));
    assert!(said.contains("-f /no/such/folder"), "{said}");
    let said = sentence(&up(&["-f", "/etc/passwd"]));
    assert!(said.contains("-f /etc/passwd") && said.contains("directory"), "{said}");
    let long = "x".repeat(64);
    let said = sentence(&up(&["-f", folder, "--name", &long]));
    assert!(said.contains("--name"), "{said}");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let said = sentence(&up(&["-f", folder, "--viz-port", &port]));
    assert!(
        said.contains(&format!("--viz-port {port}")) && said.contains("in use"),
        "{said}"
    );
}

#[test]
fn commands_name_what_does_not_exist() {
    let mesh = Mesh::start(Sidecars::Off, &[("good.yaml", GOOD)]);
    let fails = |words: &[&str], part: &str| {
        let said = sentence(&mesh.command(words).output().expect("mesh runs"));
        assert!(said.contains(part), "{words:?}: {said}");
    };
    let folder = mesh.state();
    fails(
        &["local", "up", "-f", folder.to_str().expect("plain")],
        "already running",
    );
    fails(
        &["local", "exec", "missing", "--", "true"],
        "no pod matches \"missing\"",
    );
    fails(&["local", "logs", "good", "-c", "other"], "-c other");
    fails(
        &["local", "scale", "nothing", "--replicas", "1"],
        "no Deployment matches",
    );
    let missing = mesh.exec("good", &["no-such-program"]);
    assert!(sentence(&missing).contains("no-such-program"));
    mesh.down();
}

fn deployment(name: &str, container: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{ name: {name} }}\nspec:\n  selector: {{ matchLabels: \
         {{ app: {name} }} }}\n  template:\n    metadata: {{ labels: {{ app: {name} }} }}\n    spec: {{ containers: \
         [{container}] }}\n"
    )
}

#[test]
fn broken_manifests_are_refused_and_the_rest_runs() {
    let missing = deployment("missing", "{ name: c, command: [no-such-program] }");
    let image = deployment("image", "{ name: c, image: nginx }");
    let port = deployment(
        "port",
        "{ name: c, command: [sleep, '9'], ports: [{ containerPort: 70000 }] }",
    );
    let long = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{ name: {} }}\n",
        "x".repeat(64)
    );
    let mesh = Mesh::start(
        Sidecars::Off,
        &[
            ("good.yaml", GOOD),
            ("missing.yaml", &missing),
            ("image.yaml", &image),
            ("port.yaml", &port),
            ("long.yaml", &long),
            ("unknown.yaml", "apiVersion: v1\nkind: Gizmo\nmetadata: { name: g }\n"),
            ("broken.yaml", "apiVersion: v1\nkind: [\n"),
            (
                "selector.yaml",
                &deployment("chosen", "{ name: c, command: [sleep, '9'] }")
                    .replace("matchLabels: { app: chosen", "matchLabels: { app: other"),
            ),
            (
                "service.yaml",
                "apiVersion: v1\nkind: Service\nmetadata: { name: lonely }\nspec: { selector: { app: none }, ports: [{ port: 80 }] }\n",
            ),
            (
                "split.yaml",
                "apiVersion: split.smi-spec.io/v1alpha2\nkind: TrafficSplit\nmetadata: { name: split }\nspec: { service: \
                 lonely, backends: [{ service: nowhere, weight: 1 }] }\n",
            ),
        ],
    );
    for parts in [
        &["Deployment default/missing", "no-such-program"][..],
        &["image.yaml", "container c: it has no command"],
        &["port.yaml", "70000 is not a port"],
        &["selector.yaml", "spec.selector does not match"],
        &["long.yaml", "64 characters"],
        &["unknown.yaml", "Gizmo"],
        &["broken.yaml:"],
        &["Service default/lonely", "no endpoints"],
        &["TrafficSplit default/split", "nowhere"],
    ] {
        mesh.wait(&format!("a sentence with {parts:?}"), || {
            mesh.said()
                .lines()
                .any(|line| parts.iter().all(|part| line.contains(part)))
        });
    }
    let good = find_good(&mesh);
    assert!(good.ready, "{good:?}");
}

fn find_good(mesh: &Mesh) -> Pod {
    let mut pods = mesh.pods().into_iter();
    pods.find(|pod| pod.name == "good").expect("the good pod")
}

#[test]
fn a_file_that_becomes_invalid_removes_nothing_and_recovers() {
    let mesh = Mesh::start(Sidecars::Off, &[("good.yaml", GOOD)]);
    let before = find_good(&mesh);
    mesh.write("good.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {\n");
    mesh.wait_said("refused: ");
    mesh.write("good.yaml", GOOD);
    mesh.wait_said("accepted again: ");
    let after = find_good(&mesh);
    assert!(after.ready && after.address == before.address, "{after:?}");
}
