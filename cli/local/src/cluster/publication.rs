//! Publication of the cluster's state: generated objects, endpoints, translation rules, hosts files. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    objects,
    observed::{PodRecord, Publication},
    services::{self, Backend, ServiceView},
};
use crate::plan::{Desired, PlannedService, names::Key};

/// Publication of the desired Services over the existing pods.
pub(crate) fn publication(desired: &Desired, pods: &BTreeMap<Key, PodRecord>) -> Publication {
    let services: Vec<_> = desired.services.iter().map(|service| view(service, pods)).collect();
    let mut objects = desired.objects.clone();
    objects.extend(
        services
            .iter()
            .map(|service| objects::service(service.namespace, service.service, service.cluster_ip)),
    );
    let mut sets = BTreeMap::new();
    for pod in pods.values() {
        objects.push(objects::pod(pod));
        if let Some(deployment) = &pod.deployment {
            let name = objects::replica_set_name(&deployment.name, &pod.hash);
            sets.entry((deployment.namespace.clone(), name))
                .or_insert_with(|| objects::replica_set(pod, &deployment.name));
        }
    }
    objects.extend(sets.into_values());
    objects.extend(services.iter().flat_map(services::slices));
    let hosts = |pod: &PodRecord| services::hosts(&pod.plan.name, &pod.plan.namespace, pod.plan.address, &services);
    Publication {
        objects: objects
            .iter()
            .map(|object| (file_name(object), object.to_string()))
            .collect(),
        hosts: pods.iter().map(|(key, pod)| (key.clone(), hosts(pod))).collect(),
        table: Some(services::table(
            &services,
            &pods.values().map(|pod| pod.plan.address).collect(),
        )),
    }
}

fn view<'a>(planned: &'a PlannedService, pods: &'a BTreeMap<Key, PodRecord>) -> ServiceView<'a> {
    let selected = pods
        .values()
        .filter(|pod| pod.plan.namespace == planned.namespace && services::selects(&planned.service, &pod.labels));
    let backend = |pod: &'a PodRecord| Backend {
        name: &pod.plan.name,
        address: pod.plan.address,
        ready: pod.runtime.ready(),
        terminating: pod.terminating(),
        spec: &pod.spec,
    };
    ServiceView {
        namespace: &planned.namespace,
        name: &planned.name,
        service: &planned.service,
        cluster_ip: planned.cluster_ip,
        backends: selected.map(backend).collect(),
    }
}

/// One file per object. The contents are JSON, which is YAML, too.
fn file_name(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, metadata) = (text(&object["kind"]), &object["metadata"]);
    format!(
        "{kind}_{}_{}.yaml",
        text(&metadata["namespace"]),
        text(&metadata["name"])
    )
}
