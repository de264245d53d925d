//! CNI plugin, which redirects so that pods of the mesh do not need NET_ADMIN: installed after pods, replaced under
//! them, uninstalled without a trace.

use std::sync::Arc;

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tests_cluster::{
    bed::{Bed, Needs},
    load::{self, Client},
    say, wait_for,
};

/// Namespaces of the plugin and of the mesh.
const CNI: &str = "linkerd-cni";
const MESH: &str = "linkerd";
/// Namespace of the level `restricted`.
const STRICT: &str = "cni-strict";
/// Taint of a node without the plugin.
const TAINT: &str = "linkerd.io/cni-not-ready";
/// Exit code of the validator without redirection.
const NOT_REDIRECTED: &str = "95";

/// Test, after those of Helm because it needs a cluster without a mesh.
pub(crate) fn tests(bed: &Arc<Bed>) -> Vec<Trial> {
    vec![bed.test("cni::lifecycle", Needs::Images, lifecycle)]
}

fn lifecycle(bed: &Bed) {
    let before = files(bed);
    mesh_comes_first(bed);
    plugin_repairs(bed);
    let strict = bed.cluster().namespace(STRICT);
    strict_pods_are_meshed(bed);
    plugin_is_replaced(bed);
    drop(strict);
    uninstall(bed);
    match before.zip(files(bed)) {
        Some((before, after)) => assert_eq!(after, before, "the node is as it was"),
        None => say("whether the node is as it was is not looked at: it is not of ../shared/kube"),
    }
    bed.forget();
}

/// Files of the runtime on the node: names, modes, checksums.
fn files(bed: &Bed) -> Option<String> {
    let list = "cd / && find opt/cni/bin etc/cni/net.d -type f -printf '%p %m %s\\n' -exec md5sum {} + | sort";
    bed.cluster().on_node(&["bash", "-c", list])
}

fn shell(bed: &Bed, lines: &str) -> String {
    bed.cluster().shell(lines).unwrap_or_else(|why| panic!("{why}"))
}

/// A mesh for the plugin but without it: pods do not run without their rules, and `mesh check` reports it.
fn mesh_comes_first(bed: &Bed) {
    shell(
        bed,
        "mesh install --crds | kubectl apply -f -
         mesh install --linkerd-cni-enabled --set networkValidator.timeout=1s | kubectl apply -f -",
    );
    let path = "jsonpath={.items[*].status.initContainerStatuses[?(@.name==\"linkerd-network-validator\")]['state','lastState'].terminated.exitCode}";
    wait_for("a validator finds that nothing is redirected", || {
        let codes = bed.cluster().kubectl(&["-n", MESH, "get", "pods", "-o", path]);
        codes.split_whitespace().any(|code| code == NOT_REDIRECTED)
    });
    let said = bed.cluster().shell("mesh check --wait 1s || true").expect("it prints");
    assert!(said.contains("cni plugin DaemonSet exists"), "{said}");
}

/// Installs the plugin: existing pods are recreated, redirected, on a node that accepts pods only now.
fn plugin_repairs(bed: &Bed) {
    let _untaint = Untaint(bed);
    let taint = format!("{TAINT}=true:NoSchedule");
    bed.cluster().kubectl(&["taint", "nodes", "--all", &taint]);
    shell(
        bed,
        &format!("mesh install-cni --set startupTaint={TAINT} | kubectl apply -f -"),
    );
    for namespace in [CNI, MESH] {
        bed.ready(namespace)
            .unwrap_or_else(|why| panic!("{why}\n{}", bed.describe(CNI)));
    }
    let selector = "reason=LinkerdCNINotConfigured";
    let events = bed
        .cluster()
        .kubectl(&["-n", MESH, "get", "events", "--field-selector", selector, "-o", "name"]);
    assert!(!events.trim().is_empty(), "the repair of a pod is reported");
    let said = shell(bed, "mesh check");
    assert!(said.contains("√ cni plugin pod is running on all nodes"), "{said}");
}

/// Removes the taint after a failure.
struct Untaint<'a>(&'a Bed);

impl Drop for Untaint<'_> {
    fn drop(&mut self) {
        let none = format!("{TAINT}-");
        let _ = self.0.cluster().try_kubectl(&["taint", "nodes", "--all", &none]);
    }
}

/// Security context without any privileges.
fn security() -> Value {
    json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true, "runAsUser": 65534,
        "seccompProfile": {"type": "RuntimeDefault"}})
}

/// Pods of the level `restricted` join the mesh: the server identifies its client by mutual TLS.
fn strict_pods_are_meshed(bed: &Bed) {
    let cluster = bed.cluster();
    cluster.kubectl(&[
        "label",
        "namespace",
        STRICT,
        "pod-security.kubernetes.io/enforce=restricted",
    ]);
    cluster.kubectl(&["annotate", "namespace", STRICT, "linkerd.io/inject=enabled"]);
    let mut server = Vec::new();
    for mut object in destination_yaml::all(&load::server(STRICT, "server", 1)).expect("YAML") {
        if let Some(container) = object.pointer_mut("/spec/template/spec/containers/0") {
            container["securityContext"] = security();
        }
        server.push(object);
    }
    server.retain(Value::is_object);
    cluster.apply(&load::list(&server));
    bed.ready(STRICT)
        .unwrap_or_else(|why| panic!("{why}\n{}", bed.describe(CNI)));
    let mut container = load::container(&["load", "server:80", "--kept", "2", "--fresh", "2", "--seconds", "1"]);
    container["securityContext"] = security();
    let client = Client::apply(
        cluster,
        &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "client", "namespace": STRICT},
            "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]}}),
    );
    let outcome = client.outcome(std::time::Duration::from_secs(60));
    assert_eq!(outcome.failures, 0, "{outcome:?}");
    let identity = format!("default.{STRICT}.serviceaccount.identity.linkerd.cluster.local");
    assert_eq!(outcome.identities.keys().collect::<Vec<_>>(), [&identity]);
    let names = cluster.kubectl(&[
        "-n",
        STRICT,
        "get",
        "pods",
        "-o",
        "jsonpath={.items[*].spec.initContainers[*].name}",
    ]);
    assert!(
        names.contains("linkerd-network-validator") && !names.contains("linkerd-init"),
        "{names}"
    );
}

/// While a pod of the DaemonSet is replaced, a new pod waits: it never runs without its rules.
fn plugin_is_replaced(bed: &Bed) {
    let cluster = bed.cluster();
    cluster.kubectl(&["-n", CNI, "delete", "pod", "-l", "k8s-app=linkerd-cni", "--wait=false"]);
    cluster.kubectl(&["-n", STRICT, "scale", "deployment", "server", "--replicas=3"]);
    for namespace in [STRICT, CNI] {
        bed.ready(namespace)
            .unwrap_or_else(|why| panic!("{why}\n{}", bed.describe(CNI)));
    }
    let path =
        "jsonpath={.items[*].status.initContainerStatuses[?(@.name==\"linkerd-network-validator\")].restartCount}";
    let restarts = cluster.kubectl(&["-n", STRICT, "get", "pods", "-l", "app=server", "-o", path]);
    assert_eq!(
        restarts.split_whitespace().collect::<Vec<_>>(),
        ["0", "0", "0"],
        "no pod started without its rules"
    );
}

/// Uninstalls the mesh and the plugin with its files on the node.
fn uninstall(bed: &Bed) {
    shell(bed, "mesh uninstall --force | kubectl delete -f - --wait=false");
    shell(bed, "mesh install-cni | kubectl delete -f - --wait");
    for namespace in [CNI, MESH, STRICT] {
        wait_for(&format!("the namespace {namespace} is gone"), || {
            bed.cluster().try_kubectl(&["get", "namespace", namespace]).is_err()
        });
    }
}
