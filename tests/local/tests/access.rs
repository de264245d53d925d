//! SMI's access control with real traffic: a TrafficTarget lets its sources make its requests and nothing else pass,
//! and what was before is back once it is gone.

use tests_local::{Mesh, Sidecars, test_app};

const APPS: &str = include_str!("../manifests/access.yaml");
const GROUP: &str = "
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: api, namespace: apps}
spec:
  matches:
  - {name: read, pathRegex: '/api/.*', methods: [GET]}
  - {name: write, pathRegex: '/api/items', methods: [POST]}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {name: http, namespace: apps}
spec: {matches: {ports: [8080]}}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {name: echo, namespace: apps}
spec: {matches: {ports: [9000]}}
";

fn target(name: &str, source: &str, rules: &str) -> String {
    format!(
        "
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {{name: {name}, namespace: apps}}
spec:
  destination: {{kind: ServiceAccount, name: server, namespace: apps}}
  sources: [{{kind: ServiceAccount, name: {source}, namespace: apps}}]
  rules: {rules}
"
    )
}

struct Apps {
    mesh: Mesh,
    server: String,
}

impl Apps {
    /// Status of a request; empty without an answer.
    fn status(&self, client: &str, method: &str, path: &str) -> String {
        let host = &self.server;
        let script = format!(
            "exec 3<>/dev/tcp/{host}/8080; printf '{method} {path} HTTP/1.1\\r\\nhost: server\\r\\nconnection: close\\r\\n\
             content-length: 0\\r\\n\\r\\n' >&3; head -n 1 <&3"
        );
        let output = self.mesh.exec(client, &["bash", "-c", &script]);
        let line = String::from_utf8_lossy(&output.stdout).into_owned();
        line.split(' ').nth(1).unwrap_or_default().to_owned()
    }

    /// Returns true if opaque bytes pass.
    fn echoes(&self, client: &str) -> bool {
        let target = format!("{}:9000", self.server);
        let argv = [&test_app(), "client", "tcp", &target, "--bytes", "100"];
        self.mesh.exec(client, &argv).status.success()
    }

    fn statuses(&self, method: &str, path: &str) -> [String; 3] {
        ["friend", "other", "stranger"].map(|client| self.status(client, method, path))
    }
}

#[test]
fn a_traffic_target_lets_its_sources_make_its_requests_and_nothing_else_pass() {
    let mesh = Mesh::start(Sidecars::On, &[("access.yaml", APPS)]);
    let server = mesh.pods_of("server").swap_remove(0).address;
    let apps = Apps { mesh, server };
    let mesh = &apps.mesh;
    mesh.write("group.yaml", GROUP);
    assert_eq!(
        apps.statuses("GET", "/api/items"),
        ["200", "200", "200"],
        "no target yet"
    );
    assert!(["friend", "other", "stranger"].iter().all(|client| apps.echoes(client)));

    let rules = "[{kind: HTTPRouteGroup, name: api, matches: [read]}, {kind: TCPRoute, name: http}]";
    let read = target("read", "friend", rules);
    mesh.write("target.yaml", &read);
    mesh.wait("the target", || apps.status("other", "GET", "/api/items") == "403");
    assert_eq!(apps.statuses("GET", "/api/items"), ["200", "403", "403"]);
    assert_eq!(apps.statuses("POST", "/api/items"), ["403", "403", "403"]);
    assert_eq!(apps.statuses("GET", "/else"), ["403", "403", "403"]);
    assert!(
        ["friend", "other", "stranger"]
            .iter()
            .all(|client| !apps.echoes(client))
    );
    assert_eq!(mesh.ready("server"), 1, "probes go on");

    // Targets add up, for another source and for connections: the requests of either match those of the other's group.
    let all = target("all", "other", "[{kind: HTTPRouteGroup, name: api}]");
    let echo = target("echo", "friend", "[{kind: TCPRoute, name: echo}]");
    mesh.write("target.yaml", &format!("{read}{all}{echo}"));
    mesh.wait("the other targets", || {
        apps.status("other", "POST", "/api/items") == "200" && apps.echoes("friend")
    });
    assert_eq!(apps.statuses("GET", "/api/items"), ["200", "200", "403"]);
    assert_eq!(apps.statuses("POST", "/api/items"), ["403", "200", "403"]);
    assert!(!apps.echoes("other") && !apps.echoes("stranger"));

    // One that is wrong allows nothing.
    mesh.write(
        "target.yaml",
        &target("read", "friend", "[{kind: HTTPRouteGroup, name: none}]"),
    );
    mesh.wait("the wrong target", || {
        apps.status("friend", "GET", "/api/items") == "403"
    });

    mesh.write("target.yaml", "");
    mesh.wait("what was before", || apps.status("stranger", "POST", "/else") == "200");
    assert_eq!(apps.statuses("GET", "/api/items"), ["200", "200", "200"]);
    assert!(["friend", "other", "stranger"].iter().all(|client| apps.echoes(client)));
    apps.mesh.down();
}
