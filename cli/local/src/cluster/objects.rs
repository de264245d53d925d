//! Objects that a cluster's controllers would write: Pods with their status, ReplicaSets, Services with addresses.

use std::{net::Ipv4Addr, time::SystemTime};

use destination_k8s::keys;
use k8s_openapi::api::core::v1::Service;
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::observed::{ContainerState, PodRecord};
use crate::plan::names::{CONTROL_PLANE, HOST, NODE, uid};

/// A pod as the API server would show it.
pub(crate) fn pod(pod: &PodRecord) -> Value {
    let plan = &pod.plan;
    let meshed = plan.sidecar.is_some();
    let mut labels: Map<String, Value> = pod
        .labels
        .iter()
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    if let Some(deployment) = &pod.deployment {
        labels.insert(keys::POD_TEMPLATE_HASH.to_owned(), json!(pod.hash));
        if meshed {
            labels.insert(keys::PROXY_DEPLOYMENT.to_owned(), json!(deployment.name));
        }
    }
    if meshed {
        labels.insert(keys::CONTROL_PLANE_NS.to_owned(), json!(CONTROL_PLANE));
        labels.insert(keys::WORKLOAD_NS.to_owned(), json!(plan.namespace));
    }
    // A cluster's webhook copies them, too.
    let mut annotations = plan
        .sidecar
        .as_ref()
        .map(|sidecar| sidecar.inherited.clone())
        .unwrap_or_default();
    annotations.extend(pod.annotations.clone());
    let mut metadata = json!({
        "name": plan.name,
        "namespace": plan.namespace,
        "uid": uid(&plan.namespace, &plan.name),
        "labels": labels,
        "annotations": annotations,
        "creationTimestamp": timestamp(pod.created),
    });
    if let Some(deployment) = &pod.deployment {
        let set = replica_set_name(&deployment.name, &pod.hash);
        metadata["ownerReferences"] = json!([owner("apps/v1", "ReplicaSet", &plan.namespace, &set)]);
    }
    if let Some((at, _)) = pod.termination {
        metadata["deletionTimestamp"] = json!(timestamp(at));
    }
    let mut spec = serde_json::to_value(&*pod.spec).expect("a pod spec is plain");
    spec["nodeName"] = json!(NODE);
    spec["serviceAccountName"] = json!(plan.service_account);
    if let (Some(sidecar), Some(containers)) = (&plan.sidecar, spec["containers"].as_array_mut()) {
        let env = sidecar
            .container
            .env
            .iter()
            .map(|(name, value)| json!({ "name": name, "value": value }));
        let env: Vec<_> = env.collect();
        containers.push(json!({
            "name": keys::PROXY_CONTAINER,
            "command": sidecar.container.argv,
            "env": env,
            "ports": [
                { "name": "linkerd-proxy", "containerPort": sidecar.inbound_port },
                { "name": "linkerd-admin", "containerPort": sidecar.admin_port },
            ],
        }));
    }
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status(pod) })
}

fn status(pod: &PodRecord) -> Value {
    let runtime = &pod.runtime;
    let ready = runtime.ready();
    let condition = |kind: &str, holds: bool| json!({ "type": kind, "status": if holds { "True" } else { "False" } });
    let container = |state: &ContainerState| {
        json!({
            "name": state.name, "ready": state.ready, "started": state.running,
            "restartCount": state.restarts, "image": "", "imageID": "",
        })
    };
    let statuses: Vec<_> = runtime.containers.iter().map(container).collect();
    json!({
        "phase": if runtime.containers.iter().any(|state| state.running) { "Running" } else { "Pending" },
        "podIP": pod.plan.address,
        "podIPs": [{ "ip": pod.plan.address }],
        "hostIP": HOST,
        "startTime": timestamp(pod.created),
        "conditions": [
            condition("PodScheduled", true),
            condition("Initialized", runtime.pause_pid.is_some()),
            condition("ContainersReady", ready),
            condition("Ready", ready),
        ],
        "containerStatuses": statuses,
    })
}

/// The ReplicaSet that stands between a Deployment and its pods of one template.
pub(crate) fn replica_set(pod: &PodRecord, deployment: &str) -> Value {
    let namespace = &pod.plan.namespace;
    let name = replica_set_name(deployment, &pod.hash);
    let labels = json!(pod.labels);
    json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": name, "namespace": namespace, "uid": uid(namespace, &name), "labels": labels,
            "ownerReferences": [owner("apps/v1", "Deployment", namespace, deployment)],
        },
        "spec": { "selector": { "matchLabels": { keys::POD_TEMPLATE_HASH: pod.hash } } },
    })
}

/// A Service with the address it was given.
pub(crate) fn service(namespace: &str, service: &Service, cluster_ip: Option<Ipv4Addr>) -> Value {
    let mut value = serde_json::to_value(service).expect("a Service is plain");
    value["metadata"]["namespace"] = json!(namespace);
    if let Some(address) = cluster_ip {
        value["spec"]["clusterIP"] = json!(address);
        value["spec"]["clusterIPs"] = json!([address]);
    }
    value
}

/// Name of the ReplicaSet of a template.
pub(crate) fn replica_set_name(deployment: &str, hash: &str) -> String {
    format!("{deployment}-{hash}")
}

fn owner(api: &str, kind: &str, namespace: &str, name: &str) -> Value {
    json!({ "apiVersion": api, "kind": kind, "name": name, "uid": uid(namespace, name), "controller": true })
}

fn timestamp(at: SystemTime) -> String {
    let whole = OffsetDateTime::from(at)
        .replace_nanosecond(0)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    whole.format(&Rfc3339).unwrap_or_default()
}
