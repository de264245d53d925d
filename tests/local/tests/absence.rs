//! The absence of a policy allows nothing: with the control plane away, with more lookups than there is room for, on
//! the first connection to an undeclared port, nothing passes that the policy forbids. What was allowed goes on.

use std::{
    process::{Child, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use tests_local::{Mesh, Sidecars, test_app};

const APPS: &str = include_str!("../manifests/guarded.yaml");

/// Ports of a scan, more than there are lookups, and the first of them.
const SCAN: (u16, u16) = (4300, 20_000);
/// Longest time until traffic passes that waited for the control plane.
const BACK: Duration = Duration::from_secs(10);

struct Attack(Mesh);

impl Attack {
    fn address(&self, deployment: &str) -> String {
        self.0.pods_of(deployment)[0].address.clone()
    }

    /// Returns true if an unmeshed client gets bytes through a port.
    fn passes(&self, address: &str, port: u16, client: &[&str]) -> bool {
        let target = format!("{address}:{port}");
        let argv: Vec<_> = [test_app(), "client".into()]
            .into_iter()
            .chain(client.iter().map(|word| (*word).to_owned()))
            .chain([target, "--bytes".into(), "100".into()])
            .collect();
        let argv: Vec<_> = argv.iter().map(String::as_str).collect();
        self.0.exec("stranger", &argv).status.success()
    }

    /// Share of the requests that a client gets an answer to, in percent.
    fn answered(&self, client: &str, target: &str) -> u64 {
        let app = test_app();
        let argv = [
            &app,
            "load",
            target,
            "--kept",
            "0",
            "--fresh",
            "2",
            "--rate",
            "5",
            "--seconds",
            "1",
        ];
        let counts = self.0.exec_json(client, &argv);
        let count = |name: &str| counts[name].as_u64().expect("a count");
        100 - 100 * count("failures") / count("requests").max(1)
    }

    /// Holds connections of an unmeshed client to many ports.
    fn scan(&self, address: &str, seconds: u64) -> Child {
        let (count, from) = SCAN;
        let (count, from, seconds) = (count.to_string(), from.to_string(), seconds.to_string());
        let app = test_app();
        let argv = [
            &app,
            "client",
            "scan",
            address,
            "--from",
            &from,
            "--count",
            &count,
            "--seconds",
            &seconds,
        ];
        let mut command = self.0.exec_command("stranger", &argv);
        command.stdout(Stdio::piped()).spawn().expect("it runs")
    }

    fn assert_closed(&self, address: &str, when: &str) {
        assert!(!self.passes(address, 9000, &["tcp"]), "{when}");
        assert!(!self.passes(address, 9001, &["tcp", "--speaks-first"]), "{when}");
        assert_eq!(self.answered("stranger", &format!("{address}:8080")), 0, "{when}");
    }
}

fn finish(scan: Child) {
    let output = scan.wait_with_output().expect("it ends");
    let counts: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(counts["bytes"], 0, "{counts}");
}

#[test]
fn absence_of_a_policy_allows_nothing() {
    let attack = Attack(Mesh::start(Sidecars::On, &[("guarded.yaml", APPS)]));
    let mesh = &attack.0;
    let server = attack.address("server");
    assert!(!attack.passes(&server, 9000, &["tcp"]), "the first connection");
    assert_eq!(attack.answered("client", "server:80"), 100);

    let scan = attack.scan(&server, 9);
    sleep(Duration::from_secs(3));
    attack.assert_closed(&server, "all lookups are in use");
    assert_eq!(
        attack.answered("client", "server:80"),
        100,
        "declared ports keep theirs"
    );
    finish(scan);

    mesh.scale("linkerd", "linkerd-destination", 0);
    mesh.wait("no control plane", || mesh.pods_of("linkerd-destination").is_empty());
    mesh.scale("apps", "fresh", 1);
    mesh.wait("a fresh pod", || {
        let pods = mesh.pods_of("fresh");
        pods.len() == 1 && pods[0].status.starts_with("NotReady")
    });
    // Its application runs, and its sidecar has a certificate.
    sleep(Duration::from_secs(3));
    let fresh = attack.address("fresh");
    for round in 0..2 {
        attack.assert_closed(&server, "the control plane is away");
        assert_eq!(attack.answered("stranger", &format!("{fresh}:8080")), 0);
        assert_eq!(attack.answered("client", "server:80"), 100, "what was allowed goes on");
        assert_eq!(mesh.ready("fresh"), 0, "it does not know its policies");
        if round == 0 {
            finish(attack.scan(&server, 4));
        }
    }

    mesh.scale("linkerd", "linkerd-destination", 1);
    mesh.wait("the control plane", || mesh.ready("linkerd-destination") == 1);
    let back = Instant::now();
    while mesh.ready("fresh") == 0 || attack.answered("client", "fresh:80") < 100 {
        assert!(
            back.elapsed() < BACK,
            "not served {BACK:?} after the control plane was back"
        );
    }
    attack.assert_closed(&server, "the control plane is back");
    assert_eq!(attack.answered("stranger", &format!("{fresh}:8080")), 0);
    attack.0.down();
}
