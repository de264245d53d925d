//! From Kubernetes objects to what the queries need of them.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use destination_k8s::{Kind as ObjectKind, Object, ObjectRef, keys};
use destination_source::Update;
use k8s_openapi::{
    api::core::v1::{Pod as K8sPod, PodStatus},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use tokio::sync::{mpsc, watch};
use viz_api::Kind;
use viz_query::{Objects, Pod, PodKey, Service, Split, Workload};

/// What identities end with.
#[derive(Clone, Debug)]
pub(crate) struct TrustDomain {
    /// Namespace of the control plane.
    pub(crate) control_plane: String,
    /// The domain itself.
    pub(crate) domain: String,
}

/// Keeps `objects` as the source says, until the source ends.
pub(crate) async fn follow(
    mut updates: mpsc::Receiver<Update>,
    trust: TrustDomain,
    objects: watch::Sender<Arc<Objects>>,
) -> Result<(), Infallible> {
    let mut all: BTreeMap<ObjectRef, Object> = BTreeMap::new();
    while let Some(update) = updates.recv().await {
        match update {
            Update::Reset(new) => all = new.into_iter().map(|o| (o.object_ref(), o)).collect(),
            Update::Changed { applied, deleted } => {
                all.retain(|reference, _| !deleted.contains(reference));
                all.extend(applied.into_iter().map(|o| (o.object_ref(), o)));
            }
            // mesh-destination reads the same files and says so; once is enough.
            Update::Refused(_) => continue,
        }
        objects.send_replace(Arc::new(gather(all.values(), &trust)));
    }
    Ok(())
}

/// What the queries need of `all`.
pub(crate) fn gather<'a>(all: impl Iterator<Item = &'a Object> + Clone, trust: &TrustDomain) -> Objects {
    let mut objects = Objects::default();
    let replica_sets: BTreeMap<(&str, &str), &ObjectMeta> = all
        .clone()
        .filter(|o| o.kind() == ObjectKind::ReplicaSet)
        .map(|o| (key(o.metadata()), o.metadata()))
        .collect();
    for object in all {
        let meta = object.metadata();
        let (namespace, name) = key(meta);
        let labels = meta.labels.clone().unwrap_or_default();
        match object {
            Object::Pod(pod) => objects.pods.push(Arc::new(read_pod(pod, &replica_sets, trust))),
            Object::Service(_) => {
                objects.services.push(Service {
                    namespace: namespace.into(),
                    name: name.into(),
                    labels,
                });
            }
            Object::TrafficSplit(split) => {
                let leaves = split
                    .spec
                    .backends
                    .iter()
                    .map(|b| (b.service.clone(), b.weight.to_string()));
                let apex = split.spec.service.split('.').next().unwrap_or_default().to_owned();
                objects.splits.push(Split {
                    namespace: namespace.into(),
                    apex,
                    leaves: leaves.collect(),
                });
            }
            other => {
                let kind = Kind::from_manifest(other.kind().as_str()).filter(|k| k.is_workload());
                objects.workloads.extend(kind.map(|kind| Workload {
                    kind,
                    namespace: namespace.into(),
                    name: name.into(),
                    labels,
                }));
            }
        }
    }
    objects
}

fn key(meta: &ObjectMeta) -> (&str, &str) {
    (
        meta.namespace.as_deref().unwrap_or("default"),
        meta.name.as_deref().unwrap_or_default(),
    )
}

fn read_pod(pod: &K8sPod, replica_sets: &BTreeMap<(&str, &str), &ObjectMeta>, trust: &TrustDomain) -> Pod {
    let (namespace, name) = key(&pod.metadata);
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let meshed = labels.contains_key(keys::CONTROL_PLANE_NS);
    let account = pod
        .spec
        .as_ref()
        .and_then(|s| s.service_account_name.as_deref())
        .unwrap_or("default");
    let identity = format!(
        "{account}.{namespace}.serviceaccount.identity.{}.{}",
        trust.control_plane, trust.domain
    );
    let mut owners = owners(&pod.metadata);
    if let Some(set) = owners
        .first()
        .and_then(|(_, owner)| replica_sets.get(&(namespace, owner.as_str())))
    {
        owners.extend(self::owners(set));
    }
    if let Some(deployment) = labels
        .get(keys::PROXY_DEPLOYMENT)
        .filter(|_| owners.iter().all(|o| o.0 != Kind::Deployment))
    {
        owners.push((Kind::Deployment, deployment.clone()));
    }
    let status = pod.status.clone().unwrap_or_default();
    Pod {
        key: PodKey {
            namespace: namespace.into(),
            name: name.into(),
        },
        ip: status.pod_ip.as_deref().and_then(|ip| ip.parse().ok()),
        owners,
        labels,
        ready: is_ready(&status),
        phase: status.phase.unwrap_or_else(|| "Pending".to_owned()),
        meshed,
        identity: meshed.then_some(identity),
    }
}

fn owners(meta: &ObjectMeta) -> Vec<(Kind, String)> {
    let references = meta.owner_references.iter().flatten();
    references
        .filter_map(|r| Some((Kind::from_manifest(&r.kind)?, r.name.clone())))
        .collect()
}

fn is_ready(status: &PodStatus) -> bool {
    status
        .conditions
        .iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const MANIFESTS: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: web-1-a
  namespace: vote
  labels: {app: web, linkerd.io/control-plane-ns: linkerd}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-1, uid: a}]
spec: {serviceAccountName: web, containers: [{name: web}]}
status: {phase: Running, podIP: 10.9.0.2, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata:
  name: web-1
  namespace: vote
  ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: web, uid: b}]
spec: {selector: {matchLabels: {app: web}}}
---
apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
metadata: {name: voting, namespace: vote}
spec: {service: voting, backends: [{service: voting-v1, weight: 90}, {service: voting-v2, weight: 10}]}
";

    #[test]
    fn pods_have_their_owners_address_and_identity() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("all.yaml"), MANIFESTS).expect("written");
        let loaded = destination_source::directory::load(&[dir.path().to_owned()]);
        assert_eq!(loaded.refused, []);
        let trust = TrustDomain {
            control_plane: "linkerd".into(),
            domain: "cluster.local".into(),
        };
        let objects = gather(loaded.objects.iter(), &trust);
        let pod = &objects.pods[0];
        assert_eq!(
            pod.owners,
            [
                (Kind::ReplicaSet, "web-1".to_owned()),
                (Kind::Deployment, "web".to_owned())
            ]
        );
        assert_eq!(
            pod.identity.as_deref(),
            Some("web.vote.serviceaccount.identity.linkerd.cluster.local")
        );
        assert!(pod.ready && pod.meshed && pod.ip.is_some());
        assert_eq!(objects.splits[0].leaves[0], ("voting-v1".to_owned(), "90".to_owned()));
        assert_eq!(objects.workloads[0].kind, Kind::ReplicaSet);
    }
}
