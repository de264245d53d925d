//! Conversion of Kubernetes objects into those of viz-query.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use destination_k8s::{Kind as ObjectKind, Object, ObjectRef, keys, pod::PodView};
use destination_source::Update;
use k8s_openapi::{api::core::v1::Pod as K8sPod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use proxy_model::{env, identity::MeshNames};
use tokio::sync::{mpsc, watch};
use viz_api::Kind;
use viz_query::{Objects, Pod, PodKey, Profile, Service, Split, Workload};

/// Time to collect changes, as each pass goes through all objects; scrapes are not more frequent.
const SETTLE: Duration = Duration::from_millis(100);

/// Facts of the mesh that pods do not have.
#[derive(Clone, Debug)]
pub(crate) struct MeshConfig {
    /// Namespace of the control plane.
    pub(crate) control_plane: String,
    /// Suffix of identities.
    pub(crate) domain: String,
    /// Set where a sidecar is a container of its pod, as on a cluster.
    pub(crate) containers: bool,
}

/// Keeps `objects` up to date until the source ends.
pub(crate) async fn follow(
    mut updates: mpsc::Receiver<Update>,
    mesh: MeshConfig,
    objects: watch::Sender<Arc<Objects>>,
) -> Result<(), Infallible> {
    let mut all: BTreeMap<ObjectRef, Object> = BTreeMap::new();
    while let Some(update) = updates.recv().await {
        take(&mut all, update);
        while let Ok(update) = updates.try_recv() {
            take(&mut all, update);
        }
        objects.send_replace(Arc::new(gather(all.values(), &mesh)));
        tokio::time::sleep(SETTLE).await;
    }
    Ok(())
}

fn take(all: &mut BTreeMap<ObjectRef, Object>, update: Update) {
    match update {
        Update::Reset(new) => *all = new.into_iter().map(|o| (o.object_ref(), o)).collect(),
        Update::Changed { applied, deleted } => {
            for reference in &deleted {
                all.remove(reference);
            }
            all.extend(applied.into_iter().map(|o| (o.object_ref(), o)));
        }
        // mesh-destination reads the same objects and reports them.
        Update::Refused(_) | Update::Recovered(_) => {}
    }
}

/// ReplicaSets and Jobs, which own pods, by kind, namespace and name.
type Owners<'a> = BTreeMap<(Kind, &'a str, &'a str), &'a ObjectMeta>;

/// Converts all objects.
pub(crate) fn gather<'a>(all: impl Iterator<Item = &'a Object> + Clone, mesh: &MeshConfig) -> Objects {
    let mut objects = Objects::default();
    let owner = |object: &'a Object| {
        let kind = match object.kind() {
            ObjectKind::ReplicaSet => Kind::ReplicaSet,
            ObjectKind::Job => Kind::Job,
            _ => return None,
        };
        let (namespace, name) = key(object.metadata());
        Some(((kind, namespace, name), object.metadata()))
    };
    let known: Owners<'_> = all.clone().filter_map(owner).collect();
    for object in all {
        let meta = object.metadata();
        let (namespace, name) = key(meta);
        let labels = meta.labels.clone().unwrap_or_default();
        match object {
            Object::Pod(pod) => objects.pods.push(Arc::new(read_pod(pod, &known, mesh))),
            Object::Service(service) => {
                let selector = service.spec.as_ref().and_then(|spec| spec.selector.clone());
                objects.services.push(Service {
                    namespace: namespace.into(),
                    name: name.into(),
                    labels,
                    selector: selector.unwrap_or_default(),
                });
            }
            Object::ServiceProfile(profile) => {
                // Named after the DNS name of the Service; its own namespace may be another.
                let mut parts = name.split('.');
                let (Some(service), Some(namespace)) = (parts.next(), parts.next()) else {
                    continue;
                };
                objects.profiles.push(Profile {
                    namespace: namespace.into(),
                    service: service.into(),
                    routes: profile.spec.routes.iter().map(|route| route.name.clone()).collect(),
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

fn read_pod(pod: &K8sPod, known: &Owners<'_>, mesh: &MeshConfig) -> Pod {
    let (namespace, name) = key(&pod.metadata);
    let view = PodView::new(pod);
    let names = MeshNames {
        control_plane_namespace: &mesh.control_plane,
        trust_domain: &mesh.domain,
    };
    let has_sidecar = view.sidecar().is_some();
    let meshed = view.is_meshed_by(&mesh.control_plane) && (has_sidecar || !mesh.containers);
    let mut owners = owners(&pod.metadata);
    let outer = owners
        .first()
        .and_then(|(kind, owner)| known.get(&(*kind, namespace, owner.as_str())));
    let outer: Vec<_> = outer.into_iter().flat_map(|outer| self::owners(outer)).collect();
    owners.extend(outer);
    if let Some(deployment) = view
        .label(keys::PROXY_DEPLOYMENT)
        .filter(|_| owners.iter().all(|o| o.0 != Kind::Deployment))
    {
        owners.push((Kind::Deployment, deployment.to_owned()));
    }
    let may_tap = !has_sidecar || view.sidecar_env(env::TAP_SVC_NAME).is_some();
    Pod {
        key: PodKey {
            namespace: namespace.into(),
            name: name.into(),
        },
        ip: view.ips().next(),
        admin_port: view.admin_port(),
        tap_port: may_tap.then(|| view.tap_port()),
        owners,
        labels: view.labels().cloned().unwrap_or_default(),
        ready: view.is_ready(),
        phase: view.phase().unwrap_or("Pending").to_owned(),
        meshed,
        identity: meshed.then(|| names.service_account(view.service_account(), namespace)),
    }
}

fn owners(meta: &ObjectMeta) -> Vec<(Kind, String)> {
    let references = meta.owner_references.iter().flatten();
    references
        .filter_map(|r| Some((Kind::from_manifest(&r.kind)?, r.name.clone())))
        .collect()
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
apiVersion: v1
kind: Pod
metadata:
  name: tidy-1-b
  namespace: vote
  labels: {linkerd.io/control-plane-ns: linkerd}
  ownerReferences: [{apiVersion: batch/v1, kind: Job, name: tidy-1, uid: c}]
spec:
  containers: [{name: tidy}]
  initContainers:
  - name: linkerd-proxy
    restartPolicy: Always
    env: [{name: LINKERD2_PROXY_ADMIN_LISTEN_ADDR, value: '0.0.0.0:5191'}, {name: LINKERD2_PROXY_TAP_SVC_NAME, value: viz}]
status: {phase: Running, podIP: 10.9.0.3}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: tidy-1
  namespace: vote
  ownerReferences: [{apiVersion: batch/v1, kind: CronJob, name: tidy, uid: d}]
spec: {template: {}}
---
apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
metadata: {name: voting, namespace: vote}
spec: {service: voting, backends: [{service: voting-v1, weight: 90}, {service: voting-v2, weight: 10}]}
";

    #[test]
    fn reads_owners_addresses_and_identities_of_pods() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("all.yaml"), MANIFESTS).expect("written");
        let loaded = destination_source::directory::load(&[dir.path().to_owned()]);
        assert_eq!(loaded.refused, []);
        let mesh = MeshConfig {
            control_plane: "linkerd".into(),
            domain: "cluster.local".into(),
            containers: false,
        };
        let objects = gather(loaded.objects.iter(), &mesh);
        let pod = objects
            .pods
            .iter()
            .find(|pod| *pod.key.name == *"web-1-a")
            .expect("the pod");
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
        assert!(objects.workloads.iter().any(|w| w.kind == Kind::ReplicaSet));
        let other = MeshConfig {
            control_plane: "other".into(),
            ..mesh.clone()
        };
        let pods = gather(loaded.objects.iter(), &other).pods;
        assert!(pods.iter().all(|pod| !pod.meshed), "another mesh's pods");
        // On a cluster the label alone does not make a sidecar.
        let mesh = MeshConfig {
            containers: true,
            ..mesh
        };
        let pods = gather(loaded.objects.iter(), &mesh).pods;
        assert!(pods.iter().any(|pod| *pod.key.name == *"web-1-a" && !pod.meshed));
        let job = pods.iter().find(|pod| *pod.key.name == *"tidy-1-b").expect("the pod");
        assert!(job.meshed);
        assert_eq!((job.admin_port, job.tap_port), (5191, Some(4190)));
        assert_eq!(job.name_as(Kind::CronJob), Some("tidy"));
    }
}
