//! A mesh with control plane and sidecars starts, carries requests between two sidecars, and leaves no trace.

use tests_local::{Footprint, Host, Mesh, Sidecars, test_app};

const APPS: &str = include_str!("../manifests/apps.yaml");

#[test]
fn traffic_passes_two_sidecars() {
    let before = Host::now();
    let mesh = Mesh::start(Sidecars::On, &[("apps.yaml", APPS)]);
    let footprint = Footprint::record(mesh.supervisor(), before);
    assert!(
        mesh.pods().iter().all(|pod| pod.ready && pod.meshed),
        "{:?}",
        mesh.pods()
    );
    let counts = mesh.exec_json("deploy/client", &[&test_app(), "load", "server:80", "--seconds", "2"]);
    assert_eq!(counts["failures"], 0, "{counts}");
    assert_eq!(
        counts["pods"].as_object().map(serde_json::Map::len),
        Some(2),
        "{counts}"
    );
    mesh.down();
    footprint.assert_gone();
}

/// A Server for the admin port, open to no one but an identity.
fn admin_server(service_account: &str) -> String {
    format!(
        "apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {{name: linkerd-admin, namespace: apps}}
spec: {{podSelector: {{}}, port: linkerd-admin, proxyProtocol: HTTP/1}}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {{name: scrapes, namespace: apps}}
spec:
  targetRef: {{group: policy.linkerd.io, kind: Server, name: linkerd-admin}}
  requiredAuthenticationRefs:
  - {{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: scrapers}}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: MeshTLSAuthentication
metadata: {{name: scrapers, namespace: apps}}
spec: {{identityRefs: [{{kind: ServiceAccount, name: {service_account}, namespace: apps}}]}}
"
    )
}

#[test]
fn a_server_closes_the_admin_port_to_all_but_an_identity() {
    let mesh = Mesh::start(Sidecars::On, &[("apps.yaml", APPS)]);
    let server = mesh.pods_of("server").swap_remove(0);
    let ask = |pod: &str, host: &str, path: &str| {
        let script = format!(
            "exec 3<>/dev/tcp/{host}/4191; printf 'GET {path} HTTP/1.1\\r\\nhost: {host}\\r\\nconnection: close\\r\\n\\r\\n' >&3; head -n 1 <&3"
        );
        let output = mesh.exec(pod, &["bash", "-c", &script]);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let by_client = |path: &str| ask("deploy/client", &server.address, path);
    assert_eq!(by_client("/metrics"), "HTTP/1.1 200 OK");
    assert_eq!(by_client("/env.json"), "HTTP/1.1 403 Forbidden", "open is not named");

    mesh.write("admin.yaml", &admin_server("another"));
    mesh.wait("the admin port to be closed", || {
        by_client("/metrics") == "HTTP/1.1 403 Forbidden"
    });
    assert_eq!(by_client("/live"), "HTTP/1.1 200 OK");
    let own = format!("{}/{}", server.namespace, server.name);
    assert_eq!(ask(&own, "127.0.0.1", "/env.json"), "HTTP/1.1 200 OK");

    mesh.write("admin.yaml", &admin_server("default"));
    mesh.wait("the identity to be named", || {
        by_client("/env.json") == "HTTP/1.1 200 OK"
    });
    assert_eq!(by_client("/metrics"), "HTTP/1.1 200 OK");
    mesh.down();
}
