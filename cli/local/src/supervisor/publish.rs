//! Publication of endpoints, generated objects, translation rules and hosts files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Write as _,
    path::Path,
};

use anyhow::{Context, Result};
use destination_k8s::{Kind, Object, ObjectRef};
use serde_json::Value;

use super::{
    cluster::{Cluster, Key, PodEntry},
    objects,
    services::{self, Backend, Resolved},
    sidecar,
};

impl Cluster {
    /// Publishes the present state; what did not change is not touched.
    pub(super) fn publish(&mut self) -> Result<()> {
        let mut cluster_ips = std::mem::take(&mut self.cluster_ips);
        let exists = |namespace: &str, name: &str| {
            self.objects
                .contains_key(&ObjectRef::new(Kind::Service, namespace, name))
        };
        cluster_ips.keep(exists);
        let services: Vec<_> = self
            .objects
            .iter()
            .filter_map(|(reference, object)| match object {
                Object::Service(service) => {
                    let (namespace, name) = (&*reference.namespace, &*reference.name);
                    let cluster_ip = cluster_ips.allocate(namespace, name, service);
                    let selected = self
                        .pods
                        .iter()
                        .filter(|((other, _), pod)| other == namespace && services::selects(service, &pod.labels));
                    let backends = selected.map(|(key, pod)| backend(key, pod)).collect();
                    Some(Resolved {
                        namespace,
                        name,
                        service,
                        cluster_ip,
                        backends,
                    })
                }
                _ => None,
            })
            .collect();

        let mut generated = self.generated(&services);
        generated.extend(services.iter().flat_map(services::slices));
        let table = services::table(&services, &self.pods.values().map(|pod| pod.plan.address).collect());
        let hosts: BTreeMap<_, _> = self
            .pods
            .iter()
            .map(|(key, pod)| {
                (
                    key.clone(),
                    services::hosts(&pod.plan.name, &pod.plan.namespace, pod.plan.address, &services),
                )
            })
            .collect();
        drop(services);
        self.cluster_ips = cluster_ips;

        if self.table.as_ref() != Some(&table) {
            injector_redirect::nft::replace(&table)?;
            self.table = Some(table);
        }
        for (key, text) in hosts {
            if self.hosts.get(&key) != Some(&text) {
                write_in_place(&self.pod_dir(&key).join("hosts"), &text)?;
                self.hosts.insert(key, text);
            }
        }
        self.output.set(&generated)
    }

    fn generated(&self, services: &[Resolved<'_>]) -> Vec<Value> {
        let mut all: Vec<_> = services
            .iter()
            .map(|service| objects::service(service.namespace, service.service, service.cluster_ip))
            .collect();
        let mut sets = BTreeMap::new();
        for pod in self.pods.values() {
            all.push(objects::pod(pod));
            if let Some(deployment) = &pod.deployment {
                let name = objects::replica_set_name(&deployment.name, &pod.hash);
                sets.entry((deployment.namespace.clone(), name))
                    .or_insert_with(|| objects::replica_set(pod, &deployment.name));
            }
        }
        all.extend(sets.into_values());
        let named: BTreeSet<_> = self.objects.keys().map(|reference| &*reference.namespace).collect();
        let missing =
            |name: &&&str| !name.is_empty() && !self.objects.contains_key(&ObjectRef::new(Kind::Namespace, "", name));
        all.extend(named.iter().filter(missing).map(|name| objects::namespace(name)));
        // The control plane's own objects are nowhere else for it to read.
        let own = |reference: &&ObjectRef| {
            let namespace = if reference.kind == Kind::Namespace {
                &reference.name
            } else {
                &reference.namespace
            };
            matches!(&**namespace, sidecar::CONTROL_PLANE | sidecar::VIZ)
                && matches!(reference.kind, Kind::Namespace | Kind::Deployment)
        };
        if self.config.credentials.is_some() {
            let objects = self.objects.iter().filter(|(reference, _)| own(reference));
            all.extend(objects.filter_map(|(_, object)| serde_json::to_value(object).ok()));
        }
        all
    }
}

fn backend<'a>((_, name): &'a Key, pod: &'a PodEntry) -> Backend<'a> {
    Backend {
        name,
        address: pod.plan.address,
        ready: pod.runtime.borrow().ready(),
        terminating: pod.ending.is_some(),
        spec: &pod.spec,
    }
}

/// Writes a file that is mounted elsewhere: it must stay the same file.
fn write_in_place(path: &Path, text: &str) -> Result<()> {
    let written = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .and_then(|mut file| {
            // Written first and cut after, so that a reader never finds it empty.
            file.write_all(text.as_bytes())?;
            file.set_len(text.len() as u64)
        });
    written.with_context(|| format!("cannot write {}", path.display()))
}
