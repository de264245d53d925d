//! Table tests of the plan: objects in, desired workloads and Services out.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use destination_k8s::{Object, ObjectRef};
use serde_json::{Value, json};

use super::{Desired, Inputs, Orders, RuntimeConfig, addresses::ClusterIps, builtin::Programs, deployment_ref, plan};

/// A Deployment `name` in the namespace `ns`, with a label, a program and this number of replicas.
pub(crate) fn deployment(name: &str, program: &str, replicas: u32) -> Value {
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name, "namespace": "ns" },
        "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": name } }, "template": {
            "metadata": { "labels": { "app": name } },
            "spec": { "containers": [{ "name": "c", "command": [program],
                "ports": [{ "name": "http", "containerPort": 8080 }] }] } } } })
}

/// A bare pod `name` in the namespace `ns`.
pub(crate) fn pod(name: &str, program: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "ns" },
        "spec": { "containers": [{ "name": "c", "command": [program] }] } })
}

/// A Service `name` in the namespace `ns` that selects the Deployment of that name.
pub(crate) fn service(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "ns" },
        "spec": { "selector": { "app": name }, "ports": [{ "port": 80, "targetPort": "http" }] } })
}

/// The objects of these manifests.
pub(crate) fn objects(values: &[Value]) -> BTreeMap<ObjectRef, Object> {
    let object = |value: &Value| Object::from_value(value.clone()).expect("valid");
    let objects = values.iter().map(object);
    objects.map(|object| (object.object_ref(), object)).collect()
}

/// Inputs over these objects, without a control plane.
pub(crate) fn desired(objects: &BTreeMap<ObjectRef, Object>, change: impl FnOnce(&mut Inputs<'_>)) -> Desired {
    let dir = PathBuf::from("/state");
    let config = Arc::new(RuntimeConfig {
        dir: dir.clone(),
        manifests: dir.clone(),
        cwd: dir.clone(),
        program: dir.join("mesh"),
        programs: Programs::beside(&dir),
        base_env: Vec::new(),
        anchors: None,
    });
    let mut inputs = Inputs {
        config: &config,
        objects,
        orders: &Orders::default(),
        cluster_ips: ClusterIps::default(),
        control_plane_up: true,
        shutting_down: false,
    };
    change(&mut inputs);
    plan(inputs)
}

#[test]
fn plans_workloads_and_services() {
    let objects = objects(&[deployment("web", "run", 3), pod("client", "run"), service("web")]);
    let desired = desired(&objects, |_| {});
    let scales: Vec<_> = desired
        .workloads
        .iter()
        .map(|workload| (workload.owner.to_string(), workload.scale.replicas, workload.held))
        .collect();
    let expected = [("Deployment ns/web", 3, false), ("Pod ns/client", 1, false)];
    assert_eq!(
        scales,
        expected.map(|(owner, count, held)| (owner.to_owned(), count, held))
    );
    assert!(desired.services[0].cluster_ip.is_some());
    assert_eq!(
        desired.objects[0]["metadata"]["name"], "ns",
        "the namespace is generated"
    );
}

#[test]
fn workloads_wait_for_the_control_plane() {
    let objects = objects(&[deployment("web", "run", 1)]);
    let desired = desired(&objects, |inputs| inputs.control_plane_up = false);
    assert!(desired.workloads[0].held);
}

#[test]
fn refuses_a_selector_that_does_not_match_its_template() {
    let mut web = deployment("web", "run", 1);
    web["spec"]["selector"]["matchLabels"]["app"] = json!("other");
    let desired = desired(&objects(&[web]), |_| {});
    let refusal = desired.workloads[0].refusal.as_deref().expect("refused");
    assert!(refusal.contains("spec.selector does not match"), "{refusal}");
}

#[test]
fn orders_override_the_manifest_until_it_changes() {
    let before = objects(&[deployment("web", "run", 1)]);
    let mut orders = Orders::default();
    let Some(Object::Deployment(web)) = before.values().next() else {
        panic!("a Deployment")
    };
    orders.scale(web, 5);
    assert_eq!(deployment_ref(&web.metadata).name, "web");
    let replicas = |objects: &BTreeMap<_, _>| {
        let desired = desired_with(objects, &orders);
        desired.workloads[0].scale.replicas
    };
    assert_eq!(replicas(&before), 5);
    assert_eq!(replicas(&objects(&[deployment("web", "run", 2)])), 2);
}

#[test]
fn a_restart_changes_the_hash_of_the_template() {
    let objects = objects(&[deployment("web", "run", 1)]);
    let Some(Object::Deployment(web)) = objects.values().next() else {
        panic!("a Deployment")
    };
    let before = desired_with(&objects, &Orders::default());
    let mut orders = Orders::default();
    orders.restart(web);
    let after = desired_with(&objects, &orders);
    assert_ne!(before.workloads[0].hash, after.workloads[0].hash);
}

fn desired_with(objects: &BTreeMap<ObjectRef, Object>, orders: &Orders) -> Desired {
    let base = desired(objects, |_| {});
    plan(Inputs {
        config: &base.config,
        objects,
        orders,
        cluster_ips: ClusterIps::default(),
        control_plane_up: true,
        shutting_down: false,
    })
}
