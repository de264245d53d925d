//! The node: executes actions in namespaces and processes, and reports the observed state.

pub(crate) mod credentials;
mod files;
mod lifecycle;
mod network;
mod probe;
pub(crate) mod process;

use std::{collections::BTreeMap, net::TcpListener, path::PathBuf, sync::Arc, time::SystemTime};

use anyhow::Result;
use tokio::sync::{Notify, watch};

use self::{credentials::Credentials, lifecycle::PodTask, network::Network, process::Children};
use crate::{
    cluster::{
        Action,
        observed::{Observed, PodRecord, Publication, Runtime, Stage},
    },
    plan::{
        builtin::VIZ_CONTAINER,
        names::{Key, VIZ},
    },
    state,
};

/// Resources of a node that do not change.
pub(crate) struct NodeConfig {
    /// State directory.
    pub(crate) dir: PathBuf,
    /// Signer of workload tokens; `None` without control plane and sidecars.
    pub(crate) credentials: Option<Credentials>,
    /// The listener on the host's loopback, for mesh-viz.
    pub(crate) viz: Arc<TcpListener>,
}

/// The only node of the local cluster.
pub(crate) struct Node {
    config: NodeConfig,
    network: Network,
    children: Children,
    pods: BTreeMap<Key, RunningPod>,
    published: Arc<Publication>,
    created: u32,
    changed: Arc<Notify>,
}

/// A pod with the channels to its task.
struct RunningPod {
    record: PodRecord,
    runtime: watch::Receiver<Runtime>,
    stage: watch::Sender<Stage>,
}

impl Node {
    /// Sets up the network of the node.
    pub(crate) async fn open(config: NodeConfig) -> Result<Self> {
        Ok(Self {
            config,
            network: Network::open().await?,
            children: Children::default(),
            pods: BTreeMap::new(),
            published: Arc::default(),
            created: 0,
            changed: Arc::default(),
        })
    }

    /// Notified after each change of a pod.
    pub(crate) fn changed(&self) -> Arc<Notify> {
        self.changed.clone()
    }

    /// Returns true if no pod is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    /// Reports the current state.
    pub(crate) fn observe(&self) -> Observed {
        let record = |pod: &RunningPod| PodRecord {
            runtime: pod.runtime.borrow().clone(),
            ..pod.record.clone()
        };
        Observed {
            pods: self.pods.iter().map(|(key, pod)| (key.clone(), record(pod))).collect(),
            published: self.published.clone(),
            created: self.created,
            now: SystemTime::now(),
        }
    }

    /// Executes an action; the supervisor reports warnings itself.
    pub(crate) fn act(&mut self, action: Action) -> Result<()> {
        match action {
            Action::Remove(key) => self.remove(&key),
            Action::Create(record) => return self.create(*record),
            Action::Publish(publication) => return self.publish(publication),
            Action::Terminate { key, since, stage } => self.terminate(&key, since, stage),
            Action::Warn { .. } => {}
        }
        Ok(())
    }

    fn remove(&mut self, key: &Key) {
        self.pods.remove(key);
        let _ = std::fs::remove_dir_all(self.pod_dir(key));
    }

    fn create(&mut self, record: PodRecord) -> Result<()> {
        let key = record.key();
        let plan = &record.plan;
        self.created = record.sequence + 1;
        let dir = self.pod_dir(&key);
        files::create_pod(&dir, plan, self.config.credentials.as_ref())?;
        let (runtime, state) = watch::channel(record.runtime.clone());
        let (stage, stages) = watch::channel(Stage::Run);
        let is_viz = plan.namespace == VIZ && plan.service_account == VIZ_CONTAINER;
        let task = PodTask {
            plan: plan.clone(),
            peer: format!("pod{}", record.sequence + 1),
            dir,
            state: self.config.dir.clone(),
            network: self.network.clone(),
            children: self.children.clone(),
            listener: is_viz.then(|| (VIZ_CONTAINER.to_owned(), self.config.viz.clone())),
            runtime: Arc::new(runtime),
            changed: self.changed.clone(),
        };
        tokio::spawn(lifecycle::run_pod(task, stages));
        let pod = RunningPod {
            record,
            runtime: state,
            stage,
        };
        self.pods.insert(key, pod);
        Ok(())
    }

    fn publish(&mut self, publication: Publication) -> Result<()> {
        let old = std::mem::take(&mut self.published);
        if old.table != publication.table
            && let Some(table) = &publication.table
        {
            injector_redirect::nft::replace(table)?;
        }
        for (key, text) in &publication.hosts {
            if old.hosts.get(key) != Some(text) {
                files::write_in_place(&self.pod_dir(key).join("hosts"), text)?;
            }
        }
        files::write_objects(&self.config.dir, &old.objects, &publication.objects)?;
        self.published = Arc::new(publication);
        Ok(())
    }

    fn terminate(&mut self, key: &Key, since: SystemTime, stage: Stage) {
        if let Some(pod) = self.pods.get_mut(key) {
            pod.record.termination = Some((since, stage));
            pod.stage.send_replace(stage);
        }
    }

    /// Replaces all workload tokens.
    pub(crate) fn rotate_tokens(&self) {
        let Some(credentials) = &self.config.credentials else {
            return;
        };
        for plan in self.pods.values().map(|pod| &pod.record.plan) {
            if let Some(sidecar) = &plan.sidecar
                && let Err(error) = credentials.write_token(plan, &sidecar.token)
            {
                tracing::error!(%error, pod = plan.name, "cannot renew a token");
            }
        }
    }

    /// Reaps orphans and limits logs.
    pub(crate) fn clean_up(&self) {
        self.children.reap();
        process::limit_logs(&state::logs(&self.config.dir));
    }

    fn pod_dir(&self, (namespace, name): &Key) -> PathBuf {
        state::pod(&self.config.dir, namespace, name)
    }
}
