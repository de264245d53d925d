//! The state of the mesh, and the loop's one step: from what is wanted and what is there to what is done next.
//!
//! [`Cluster::reconcile`] is synchronous and looks at everything each time; it is called whenever a manifest, a pod or an
//! order changes. Endpoints without a terminating pod are published before the pod is signalled.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
    path::PathBuf,
    sync::Arc,
    time::SystemTime,
};

use destination_k8s::{Object, ObjectRef};
use k8s_openapi::{
    api::{apps::v1::Deployment, core::v1::PodSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use tokio::sync::{Notify, watch};

use super::{
    builtin::{self, Programs},
    credentials::{self, Credentials},
    lifecycle::{self, Runtime, Stage},
    lint,
    naming::{deployment_ref, file_of, key_of, pod_ref, short_hash},
    network::{Addresses, Network},
    output::Output,
    plan::{self, PodPlan},
    process::Children,
    report::Reporter,
    rollout::{self, Existing, Scale},
    services::ClusterIps,
    sidecar, stable_hash,
};
use crate::control::DeploymentRef;

/// Namespace and name.
pub(super) type Key = (String, String);

/// Configuration that does not change while the mesh runs.
pub(super) struct RuntimeConfig {
    /// The state directory.
    pub(super) dir: PathBuf,
    /// The user's manifests.
    pub(super) manifests: PathBuf,
    /// The program `mesh`.
    pub(super) program: PathBuf,
    /// Its companions.
    pub(super) programs: Programs,
    /// Variables of every container.
    pub(super) base_env: Vec<(String, String)>,
    /// Trust; `None` runs the pods alone.
    pub(super) credentials: Option<Credentials>,
    /// The listener on the host's loopback, for mesh-viz.
    pub(super) viz: Arc<TcpListener>,
}

/// An existing pod.
pub(super) struct PodEntry {
    /// Its plan.
    pub(super) plan: Arc<PodPlan>,
    /// Its template's labels.
    pub(super) labels: BTreeMap<String, String>,
    /// Its template's annotations.
    pub(super) annotations: BTreeMap<String, String>,
    /// Its template's spec.
    pub(super) spec: Arc<PodSpec>,
    /// The Deployment it belongs to.
    pub(super) deployment: Option<DeploymentRef>,
    /// Hash of its template.
    pub(super) hash: String,
    /// When it was made.
    pub(super) created: SystemTime,
    /// Since when it ends.
    pub(super) ending: Option<SystemTime>,
    /// State published by its task.
    pub(super) runtime: watch::Receiver<Runtime>,
    stage: watch::Sender<Stage>,
}

impl PodEntry {
    /// The Deployment, else the pod: what a person would look for.
    pub(super) fn owner(&self) -> String {
        match &self.deployment {
            Some(DeploymentRef { namespace, name }) => format!("Deployment {namespace}/{name}"),
            None => format!("Pod {}/{}", self.plan.namespace, self.plan.name),
        }
    }
}

/// Changes ordered by commands, beyond the manifests.
#[derive(Debug, Default)]
struct Order {
    // With what the manifest said then: a later change of the manifest wins.
    replicas: Option<(u32, Option<i32>)>,
    restarts: u32,
}

/// Source of pods.
struct Template<'a> {
    owner: ObjectRef,
    deployment: Option<DeploymentRef>,
    namespace: &'a str,
    metadata: Option<&'a ObjectMeta>,
    spec: Option<&'a PodSpec>,
    hash: String,
}

/// All that runs.
pub(super) struct Cluster {
    pub(super) config: RuntimeConfig,
    pub(super) reporter: Reporter,
    pub(super) pods: BTreeMap<Key, PodEntry>,
    pub(super) objects: BTreeMap<ObjectRef, Object>,
    pub(super) cluster_ips: ClusterIps,
    pub(super) output: Output,
    pub(super) hosts: BTreeMap<Key, String>,
    pub(super) table: Option<injector_redirect::nft::Table>,
    pub(super) control_plane_up: bool,
    pub(super) ending: Option<Stage>,
    pub(super) wake: Arc<Notify>,
    user: BTreeMap<ObjectRef, Object>,
    builtin: BTreeMap<ObjectRef, Object>,
    orders: BTreeMap<DeploymentRef, Order>,
    addresses: Addresses,
    network: Network,
    children: Children,
    interfaces: u32,
    // Pods to signal once the endpoints are published.
    to_end: BTreeSet<Key>,
}

impl Cluster {
    /// An empty mesh with its control plane's objects.
    pub(super) fn new(config: RuntimeConfig, network: Network, children: Children, reporter: Reporter) -> Self {
        let generated = crate::state::generated(&config.dir);
        let objects = config.credentials.as_ref().map(|credentials| {
            builtin::objects(&builtin::ControlPlaneConfig {
                manifests: &config.manifests,
                generated: &generated,
                programs: config.programs.clone(),
                credentials,
            })
        });
        let output = Output::new(generated, config.dir.join("new"));
        let by_ref = |object: Object| (object.object_ref(), object);
        Self {
            control_plane_up: config.credentials.is_none(),
            builtin: objects.into_iter().flatten().map(by_ref).collect(),
            config,
            reporter,
            network,
            children,
            output,
            pods: BTreeMap::new(),
            objects: BTreeMap::new(),
            cluster_ips: ClusterIps::default(),
            hosts: BTreeMap::new(),
            table: None,
            ending: None,
            wake: Arc::new(Notify::new()),
            user: BTreeMap::new(),
            orders: BTreeMap::new(),
            addresses: Addresses::default(),
            interfaces: 0,
            to_end: BTreeSet::new(),
        }
    }

    /// Applies an update of the manifests.
    pub(super) fn update(&mut self, update: destination_source::Update) {
        use destination_source::Update;
        match update {
            Update::Reset(objects) => {
                if objects.is_empty() {
                    let folder = self.config.manifests.display();
                    self.reporter.note(lint::nothing(&folder));
                }
                self.user = objects.into_iter().map(|o| (o.object_ref(), o)).collect();
            }
            Update::Changed { applied, deleted } => {
                for reference in deleted {
                    self.user.remove(&reference);
                }
                self.user
                    .extend(applied.into_iter().map(|object| (object.object_ref(), object)));
            }
            Update::Refused(refused) => {
                for refusal in refused {
                    self.reporter.note(format!("refused: {refusal}"));
                }
                return;
            }
        }
        for sentence in lint::lint(self.user.values()) {
            self.reporter.note(sentence);
        }
        self.objects = self.user.clone();
        self.objects.extend(self.builtin.clone());
    }

    /// One step towards what is wanted.
    pub(super) fn reconcile(&mut self) -> anyhow::Result<()> {
        self.remove_terminated();
        if let Some(stage) = self.ending {
            self.to_end.extend(self.pods.keys().cloned());
            self.publish()?;
            self.signal_stage(stage);
            return Ok(());
        }
        self.notice_control_plane();
        let objects: Vec<_> = self.objects.values().cloned().collect();
        let mut wanted = BTreeSet::new();
        for object in &objects {
            match object {
                Object::Deployment(deployment) => {
                    wanted.insert(self.roll_out(deployment));
                }
                Object::Pod(pod) => self.run_pod(&pod.metadata, pod.spec.as_ref()),
                _ => {}
            }
        }
        let orphaned = |pod: &PodEntry| match &pod.deployment {
            Some(deployment) => !wanted.contains(deployment),
            None => !self.objects.contains_key(&pod_ref(&pod.plan.namespace, &pod.plan.name)),
        };
        let orphans: Vec<_> = self
            .pods
            .iter()
            .filter(|(_, pod)| orphaned(pod))
            .map(|(key, _)| key.clone())
            .collect();
        for key in orphans {
            self.end(&key);
        }
        self.publish()?;
        self.signal_stage(Stage::Terminate);
        self.note_failures();
        Ok(())
    }

    /// Forgets pods of which nothing is left.
    fn remove_terminated(&mut self) {
        let gone: Vec<_> = self
            .pods
            .iter()
            .filter(|(_, pod)| pod.runtime.borrow().terminated)
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            if let Some(pod) = self.pods.remove(&key) {
                self.addresses.release(pod.plan.address);
                let _ = std::fs::remove_dir_all(self.pod_dir(&key));
                self.hosts.remove(&key);
            }
        }
    }

    fn notice_control_plane(&mut self) {
        let up = |name: &&str| {
            let mut pods = self.pods.values();
            pods.any(|pod| {
                let of = pod.deployment.as_ref();
                let is = of.is_some_and(|of| of.namespace == sidecar::CONTROL_PLANE && of.name == **name);
                is && pod.runtime.borrow().ready()
            })
        };
        // Once is enough: a pod that starts while the control plane is away waits for it by itself.
        self.control_plane_up = self.control_plane_up || builtin::ESSENTIAL.iter().all(up);
    }

    fn may_start(&self, namespace: &str) -> bool {
        self.control_plane_up || namespace == sidecar::CONTROL_PLANE
    }

    /// Desired scale of a Deployment.
    pub(super) fn scale_of(&self, deployment: &Deployment) -> Option<Scale> {
        let spec = deployment.spec.as_ref()?;
        let order = self.orders.get(&deployment_ref(&deployment.metadata));
        let ordered = order
            .and_then(|order| order.replicas)
            .filter(|(_, then)| *then == spec.replicas);
        Some(Scale::from_spec(spec, ordered.map(|(replicas, _)| replicas)))
    }

    fn roll_out(&mut self, deployment: &Deployment) -> DeploymentRef {
        let reference = deployment_ref(&deployment.metadata);
        let (Some(wanted), Some(spec)) = (self.scale_of(deployment), deployment.spec.as_ref()) else {
            return reference;
        };
        let restarts = self.orders.get(&reference).map_or(0, |order| order.restarts);
        let text = serde_json::to_string(&spec.template).expect("a template is plain");
        let template = Template {
            owner: ObjectRef::new(destination_k8s::Kind::Deployment, &reference.namespace, &reference.name),
            deployment: Some(reference.clone()),
            namespace: &reference.namespace,
            metadata: spec.template.metadata.as_ref(),
            spec: spec.template.spec.as_ref(),
            hash: short_hash(stable_hash(&(text, restarts)), 10),
        };
        let own = || {
            self.pods
                .iter()
                .filter(|(_, pod)| pod.deployment.as_ref() == Some(&reference))
        };
        let all = own().count();
        let mut existing: Vec<_> = own().filter(|(_, pod)| pod.ending.is_none()).collect();
        existing.sort_by_key(|(_, pod)| pod.created);
        let existing: Vec<_> = existing
            .into_iter()
            .map(|(key, pod)| Existing {
                key,
                current: pod.hash == template.hash,
                ready: pod.runtime.borrow().ready(),
            })
            .collect();
        let rollout::Step { create, end } = rollout::next(wanted, &existing, all);
        let end: Vec<_> = end.into_iter().cloned().collect();
        for key in end {
            self.end(&key);
        }
        if self.may_start(&reference.namespace) {
            for _ in 0..create {
                let random: String = std::iter::repeat_with(fastrand::lowercase).take(5).collect();
                let name = format!("{}-{}-{random}", reference.name, template.hash);
                self.start(&template, name);
            }
        }
        reference
    }

    /// A pod that no Deployment made.
    fn run_pod(&mut self, metadata: &ObjectMeta, spec: Option<&PodSpec>) {
        let key @ (namespace, name) = &key_of(metadata);
        let text = serde_json::to_string(&(metadata, spec)).expect("a pod is plain");
        let hash = short_hash(stable_hash(&text), 10);
        match self.pods.get(key) {
            Some(pod) if pod.hash == hash => {}
            Some(_) => self.end(key),
            None if self.may_start(namespace) => {
                let owner = pod_ref(namespace, name);
                let template = Template {
                    owner,
                    deployment: None,
                    namespace,
                    metadata: Some(metadata),
                    spec,
                    hash,
                };
                self.start(&template, name.clone());
            }
            None => {}
        }
    }

    fn start(&mut self, template: &Template<'_>, name: String) {
        let Some(address) = self.addresses.take() else {
            self.reporter.note("all pod addresses are in use".to_owned());
            return;
        };
        match self.plan(template, &name, address) {
            Ok(plan) => self.spawn(template, Arc::new(plan)),
            Err(sentence) => {
                self.addresses.release(address);
                let file = file_of(&self.config.manifests, &template.owner);
                self.reporter
                    .note(format!("{file}{}: {sentence}; not started", template.owner));
            }
        }
    }

    fn plan(&mut self, template: &Template<'_>, name: &str, address: std::net::Ipv4Addr) -> Result<PodPlan, String> {
        let none = BTreeMap::new();
        let spec = template.spec.ok_or("it has no pod spec")?;
        let annotations = template
            .metadata
            .and_then(|meta| meta.annotations.as_ref())
            .unwrap_or(&none);
        let (cwd, program) = (
            self.config.manifests.display().to_string(),
            self.config.program.display().to_string(),
        );
        let mut base_env = self.config.base_env.clone();
        base_env.push(("HOSTNAME".to_owned(), name.to_owned()));
        let mut plan = plan::plan(
            &plan::Context {
                namespace: template.namespace,
                name,
                address,
                labels: template.metadata.and_then(|meta| meta.labels.as_ref()).unwrap_or(&none),
                annotations,
                base_env: &base_env,
                cwd: &cwd,
                program: &program,
            },
            spec,
        )?;
        let namespace = ObjectRef::new(destination_k8s::Kind::Namespace, "", template.namespace);
        let namespace = self
            .objects
            .get(&namespace)
            .and_then(|object| object.metadata().annotations.as_ref());
        if let Some(credentials) = &self.config.credentials {
            let context = sidecar::Context {
                namespace: template.namespace,
                name,
                address,
                service_account: &plan.service_account,
                namespace_annotations: namespace.unwrap_or(&none),
                annotations,
                dir: &self.pod_dir(&(template.namespace.to_owned(), name.to_owned())),
                anchors: &credentials.anchors,
                program: &self.config.programs.find("mesh-proxy"),
            };
            plan.sidecar = sidecar::plan(&context, spec)?;
            if let Some(sidecar) = &mut plan.sidecar {
                sidecar
                    .container
                    .env
                    .extend(base_env.iter().filter(|(name, _)| name == "PATH").cloned());
            }
        }
        let ignored = plan::ignored(spec);
        if !ignored.is_empty() {
            let file = file_of(&self.config.manifests, &template.owner);
            self.reporter.note(format!(
                "{file}{}: ignored here: {}",
                template.owner,
                ignored.join(", ")
            ));
        }
        Ok(plan)
    }

    fn spawn(&mut self, template: &Template<'_>, plan: Arc<PodPlan>) {
        let key = (plan.namespace.clone(), plan.name.clone());
        let dir = self.pod_dir(&key);
        if let Err(error) = credentials::pod_files(&dir, &plan, self.config.credentials.as_ref()) {
            self.reporter.note(format!("{}: {error:#}", template.owner));
            self.addresses.release(plan.address);
            return;
        }
        self.interfaces += 1;
        let (runtime, state) = watch::channel(lifecycle::initial(&plan));
        let (stage, stages) = watch::channel(Stage::Run);
        let viz = plan.namespace == sidecar::VIZ && plan.service_account == builtin::VIZ_CONTAINER;
        let pod = lifecycle::Pod {
            plan: plan.clone(),
            peer: format!("pod{}", self.interfaces),
            dir,
            logs: crate::state::logs(&self.config.dir),
            network: self.network.clone(),
            children: self.children.clone(),
            listener: viz.then(|| (builtin::VIZ_CONTAINER.to_owned(), self.config.viz.clone())),
            runtime: Arc::new(runtime),
            wake: self.wake.clone(),
        };
        tokio::spawn(lifecycle::live(pod, stages));
        let none = BTreeMap::new();
        let entry = PodEntry {
            plan,
            labels: template
                .metadata
                .and_then(|meta| meta.labels.as_ref())
                .unwrap_or(&none)
                .clone(),
            annotations: template
                .metadata
                .and_then(|meta| meta.annotations.as_ref())
                .unwrap_or(&none)
                .clone(),
            spec: Arc::new(template.spec.cloned().unwrap_or_default()),
            deployment: template.deployment.clone(),
            hash: template.hash.clone(),
            created: SystemTime::now(),
            ending: None,
            runtime: state,
            stage,
        };
        self.pods.insert(key, entry);
    }

    /// Takes a pod out of service; it is signalled when that is published.
    fn end(&mut self, key: &Key) {
        if let Some(pod) = self.pods.get_mut(key)
            && pod.ending.is_none()
        {
            pod.ending = Some(SystemTime::now());
            self.to_end.insert(key.clone());
        }
    }

    fn signal_stage(&mut self, stage: Stage) {
        for key in std::mem::take(&mut self.to_end) {
            if let Some(pod) = self.pods.get_mut(&key) {
                pod.ending.get_or_insert_with(SystemTime::now);
                pod.stage.send_if_modified(|now| {
                    let further = *now < stage;
                    *now = stage.max(*now);
                    further
                });
            }
        }
    }

    fn note_failures(&mut self) {
        let mut notes = Vec::new();
        for pod in self.pods.values().filter(|pod| pod.ending.is_none()) {
            let runtime = pod.runtime.borrow();
            notes.extend(runtime.failure.as_ref().map(|failure| (pod.owner(), failure.clone())));
            for container in &runtime.containers {
                let failure = container.failure.as_ref();
                let sentence = failure.map(|failure| format!("container {}: {failure}", container.name));
                notes.extend(sentence.map(|sentence| (pod.owner(), sentence)));
            }
        }
        for (owner, sentence) in notes {
            self.reporter.note(format!("{owner}: {sentence}"));
        }
    }

    /// Changes the number of a Deployment's pods.
    pub(super) fn scale(&mut self, deployment: &DeploymentRef, replicas: u32) -> Result<(), String> {
        let then = self
            .deployment(deployment)?
            .spec
            .as_ref()
            .and_then(|spec| spec.replicas);
        self.orders.entry(deployment.clone()).or_default().replicas = Some((replicas, then));
        Ok(())
    }

    /// Replaces a Deployment's pods.
    pub(super) fn restart(&mut self, deployment: &DeploymentRef) -> Result<(), String> {
        self.deployment(deployment)?;
        self.orders.entry(deployment.clone()).or_default().restarts += 1;
        Ok(())
    }

    fn deployment(&self, reference: &DeploymentRef) -> Result<&Arc<Deployment>, String> {
        let DeploymentRef { namespace, name } = reference;
        match self
            .objects
            .get(&ObjectRef::new(destination_k8s::Kind::Deployment, namespace, name))
        {
            Some(Object::Deployment(deployment)) => Ok(deployment),
            _ => Err(format!("no Deployment matches {name:?} in namespace {namespace}")),
        }
    }

    /// Writes all tokens anew.
    pub(super) fn rotate_tokens(&mut self) {
        let Some(credentials) = &self.config.credentials else {
            return;
        };
        for pod in self.pods.values() {
            if let Some(sidecar) = &pod.plan.sidecar
                && let Err(error) = credentials.write_token(&pod.plan, &sidecar.token)
            {
                tracing::error!(%error, pod = pod.plan.name, "cannot renew a token");
            }
        }
    }

    /// A pod's own folder.
    pub(super) fn pod_dir(&self, (namespace, name): &Key) -> PathBuf {
        self.config.dir.join("pods").join(format!("{namespace}_{name}"))
    }
}
