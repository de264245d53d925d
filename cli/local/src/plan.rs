//! From objects to everything that should exist. Pure.
//!
//! ```text
//!   objects + orders ─ plan ─▶ Desired ─ diff ─▶ actions ─▶ node
//!                                          ▲                  │
//!                                          └──── Observed ────┘
//! ```

pub(crate) mod addresses;
pub(crate) mod builtin;
pub(crate) mod lint;
pub(crate) mod model;
pub(crate) mod names;
mod pod;
pub(crate) mod scale;
pub(crate) mod sidecar;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    path::PathBuf,
    sync::Arc,
};

use destination_k8s::{Kind, Object, ObjectRef, selector};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Pod, PodSpec, Service},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::{Value, json};

use self::{
    addresses::ClusterIps,
    builtin::Programs,
    model::PodPlan,
    names::{Key, deployment_ref, key_from_metadata, pod_ref, short_hash, stable_hash},
    scale::Scale,
};
use crate::{control::DeploymentRef, state};

/// Configuration that does not change while the mesh runs.
pub(crate) struct RuntimeConfig {
    /// State directory.
    pub(crate) dir: PathBuf,
    /// Folder of the user's manifests.
    pub(crate) manifests: PathBuf,
    /// Default working directory of containers.
    pub(crate) cwd: PathBuf,
    /// Path of the program `mesh`.
    pub(crate) program: PathBuf,
    /// Its companions.
    pub(crate) programs: Programs,
    /// Variables of every container.
    pub(crate) base_env: Vec<(String, String)>,
    /// Trust anchors, PEM; `None` runs pods without control plane and sidecars.
    pub(crate) anchors: Option<String>,
}

impl RuntimeConfig {
    /// A pod's folder in the state directory.
    pub(crate) fn pod_dir(&self, namespace: &str, name: &str) -> PathBuf {
        state::pod(&self.dir, namespace, name)
    }
}

/// Changes ordered by commands, on top of the manifests.
#[derive(Debug, Default)]
pub(crate) struct Orders(BTreeMap<DeploymentRef, Order>);

#[derive(Debug, Default)]
struct Order {
    // With the manifest's own number at that time: a later change of the manifest takes precedence.
    replicas: Option<(u32, Option<i32>)>,
    restarts: u32,
}

impl Orders {
    /// Overrides the number of pods of a Deployment.
    pub(crate) fn scale(&mut self, deployment: &Deployment, replicas: u32) {
        let own = deployment.spec.as_ref().and_then(|spec| spec.replicas);
        let order = self.0.entry(deployment_ref(&deployment.metadata)).or_default();
        order.replicas = Some((replicas, own));
    }

    /// Replaces the pods of a Deployment.
    pub(crate) fn restart(&mut self, deployment: &Deployment) {
        self.0.entry(deployment_ref(&deployment.metadata)).or_default().restarts += 1;
    }
}

/// Inputs of a plan.
pub(crate) struct Inputs<'a> {
    pub(crate) config: &'a Arc<RuntimeConfig>,
    pub(crate) objects: &'a BTreeMap<ObjectRef, Object>,
    pub(crate) orders: &'a Orders,
    /// Addresses of the previous plan, which are kept.
    pub(crate) cluster_ips: ClusterIps,
    /// Pods outside the control plane may start.
    pub(crate) control_plane_up: bool,
    /// No pod should exist any more.
    pub(crate) shutting_down: bool,
}

/// Everything that should exist.
pub(crate) struct Desired {
    pub(crate) config: Arc<RuntimeConfig>,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) services: Vec<PlannedService>,
    /// Generated objects that depend on the manifests alone.
    pub(crate) objects: Vec<Value>,
    pub(crate) cluster_ips: ClusterIps,
    pub(crate) shutting_down: bool,
}

/// A Service with its address.
pub(crate) struct PlannedService {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) service: Arc<Service>,
    pub(crate) cluster_ip: Option<Ipv4Addr>,
}

/// Pods of one template.
pub(crate) struct Workload {
    pub(crate) owner: ObjectRef,
    /// The Deployment; `None` for a bare pod.
    pub(crate) deployment: Option<DeploymentRef>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) spec: Arc<PodSpec>,
    /// Hash of the template and the ordered restarts.
    pub(crate) hash: String,
    pub(crate) scale: Scale,
    /// Its pods wait for the control plane.
    pub(crate) held: bool,
    /// Reason that the workload is refused.
    pub(crate) refusal: Option<String>,
    namespace_annotations: BTreeMap<String, String>,
}

impl Workload {
    /// Namespace and name of the owner.
    pub(crate) fn key(&self) -> Key {
        (self.owner.namespace.to_string(), self.owner.name.to_string())
    }

    /// Plans one pod; the error names the unsupported field.
    pub(crate) fn pod(&self, config: &RuntimeConfig, name: &str, address: Ipv4Addr) -> Result<PodPlan, String> {
        let namespace = &*self.owner.namespace;
        let (cwd, program) = (config.cwd.display().to_string(), config.program.display().to_string());
        let mut base_env = config.base_env.clone();
        base_env.push(("HOSTNAME".to_owned(), name.to_owned()));
        let context = pod::PodContext {
            namespace,
            name,
            address,
            labels: &self.labels,
            annotations: &self.annotations,
            base_env: &base_env,
            cwd: &cwd,
            program: &program,
        };
        let mut plan = pod::plan_pod(&context, &self.spec)?;
        let Some(anchors) = &config.anchors else {
            return Ok(plan);
        };
        plan.sidecar = sidecar::plan_sidecar(&sidecar::SidecarContext {
            pod: &context,
            service_account: &plan.service_account,
            namespace_annotations: &self.namespace_annotations,
            spec: &self.spec,
            dir: &config.pod_dir(namespace, name),
            anchors,
            program: &config.programs.find("mesh-proxy"),
        })?;
        Ok(plan)
    }

    /// Fields that are set but have no effect here.
    pub(crate) fn ignored_fields(&self) -> Vec<&'static str> {
        pod::ignored(&self.spec)
    }
}

/// Plans everything that should exist.
pub(crate) fn plan(inputs: Inputs<'_>) -> Desired {
    let mut cluster_ips = inputs.cluster_ips;
    let objects = inputs.objects;
    cluster_ips.keep(|namespace, name| objects.contains_key(&ObjectRef::new(Kind::Service, namespace, name)));
    let mut workloads = Vec::new();
    let mut services = Vec::new();
    for (reference, object) in objects {
        let workload = match object {
            Object::Deployment(deployment) => workload_from_deployment(deployment, inputs.orders),
            Object::Pod(pod) => Some(workload_from_pod(pod)),
            Object::Service(service) => {
                let (namespace, name) = (reference.namespace.to_string(), reference.name.to_string());
                services.push(PlannedService {
                    cluster_ip: cluster_ips.allocate(&namespace, &name, service),
                    namespace,
                    name,
                    service: service.clone(),
                });
                None
            }
            _ => None,
        };
        workloads.extend(workload.filter(|_| !inputs.shutting_down).map(|workload| {
            let namespace = &*workload.owner.namespace;
            Workload {
                held: !inputs.control_plane_up && namespace != names::CONTROL_PLANE,
                namespace_annotations: namespace_annotations(objects, namespace),
                ..workload
            }
        }));
    }
    Desired {
        workloads,
        services,
        objects: generated(objects, inputs.config.anchors.is_some()),
        cluster_ips,
        shutting_down: inputs.shutting_down,
        config: inputs.config.clone(),
    }
}

fn namespace_annotations(objects: &BTreeMap<ObjectRef, Object>, namespace: &str) -> BTreeMap<String, String> {
    let object = objects.get(&ObjectRef::new(Kind::Namespace, "", namespace));
    object
        .and_then(|object| object.metadata().annotations.clone())
        .unwrap_or_default()
}

fn workload_from_deployment(deployment: &Deployment, orders: &Orders) -> Option<Workload> {
    let reference = deployment_ref(&deployment.metadata);
    let spec = deployment.spec.as_ref()?;
    let order = orders.0.get(&reference);
    let ordered = order
        .and_then(|order| order.replicas)
        .filter(|(_, then)| *then == spec.replicas)
        .map(|(replicas, _)| replicas);
    let text = serde_json::to_string(&spec.template).expect("a template is serializable");
    let metadata = spec.template.metadata.clone().unwrap_or_default();
    let selected = selector::matches(&spec.selector, metadata.labels.as_ref());
    let refusal = if spec.template.spec.is_none() {
        Some("it has no pod spec".to_owned())
    } else if selected {
        None
    } else {
        Some("spec.selector does not match the labels of spec.template".to_owned())
    };
    Some(Workload {
        owner: ObjectRef::new(Kind::Deployment, &reference.namespace, &reference.name),
        hash: short_hash(stable_hash(&(text, order.map_or(0, |order| order.restarts))), 10),
        scale: Scale::from_spec(spec, ordered),
        refusal,
        deployment: Some(reference),
        ..workload_from_template(metadata, spec.template.spec.clone())
    })
}

/// A bare pod: a workload of one that is recreated when it changes.
fn workload_from_pod(pod: &Pod) -> Workload {
    let (namespace, name) = key_from_metadata(&pod.metadata);
    let text = serde_json::to_string(&(&pod.metadata, &pod.spec)).expect("a pod is serializable");
    Workload {
        owner: pod_ref(&namespace, &name),
        hash: short_hash(stable_hash(&text), 10),
        refusal: pod.spec.is_none().then(|| "it has no pod spec".to_owned()),
        ..workload_from_template(pod.metadata.clone(), pod.spec.clone())
    }
}

fn workload_from_template(metadata: ObjectMeta, spec: Option<PodSpec>) -> Workload {
    Workload {
        owner: pod_ref("", ""),
        deployment: None,
        labels: metadata.labels.unwrap_or_default(),
        annotations: metadata.annotations.unwrap_or_default(),
        spec: Arc::new(spec.unwrap_or_default()),
        hash: String::new(),
        scale: Scale::POD,
        held: false,
        refusal: None,
        namespace_annotations: BTreeMap::new(),
    }
}

/// Namespaces that no manifest creates, and the control plane's own objects, which it cannot read elsewhere.
fn generated(objects: &BTreeMap<ObjectRef, Object>, meshed: bool) -> Vec<Value> {
    let named: BTreeSet<_> = objects.keys().map(|reference| &*reference.namespace).collect();
    let is_missing =
        |name: &&str| !name.is_empty() && !objects.contains_key(&ObjectRef::new(Kind::Namespace, "", name));
    let namespace = |name| json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
    let mut all: Vec<_> = named.into_iter().filter(is_missing).map(namespace).collect();
    let is_own = |reference: &ObjectRef| {
        let namespace = match reference.kind {
            Kind::Namespace => &reference.name,
            Kind::Deployment => &reference.namespace,
            _ => return false,
        };
        matches!(&**namespace, names::CONTROL_PLANE | names::VIZ)
    };
    if meshed {
        let own = objects.iter().filter(|(reference, _)| is_own(reference));
        all.extend(own.filter_map(|(_, object)| serde_json::to_value(object).ok()));
    }
    all
}

#[cfg(test)]
pub(crate) mod tests;
