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
