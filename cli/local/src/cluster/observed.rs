//! The observed state of the local cluster, as the node reports it.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use injector_redirect::nft::Table;
use k8s_openapi::api::core::v1::PodSpec;

use crate::{
    control::DeploymentRef,
    plan::{
        model::{ContainerPlan, PodPlan},
        names::Key,
    },
};

/// Stage of a pod's termination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Running.
    Run,
    /// Terminating in order.
    Terminate,
    /// Terminating in order, with the whole mesh.
    Quit,
    /// Killed.
    Kill,
}

/// State of a pod's processes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runtime {
    /// PID of the pause process, once the network is set up.
    pub(crate) pause_pid: Option<u32>,
    /// Containers of the application, then the sidecar.
    pub(crate) containers: Vec<ContainerState>,
    /// Reason that the pod does not start.
    pub(crate) failure: Option<String>,
    /// Terminated completely.
    pub(crate) terminated: bool,
}

/// State of a container.
#[derive(Clone, Debug)]
pub(crate) struct ContainerState {
    pub(crate) name: String,
    pub(crate) running: bool,
    pub(crate) ready: bool,
    pub(crate) restarts: u32,
    /// Reason of its last exit or failed start.
    pub(crate) failure: Option<String>,
    /// Result of its last failed readiness or startup probe.
    pub(crate) unready: Option<String>,
}

impl Runtime {
    /// State of a pod that has not started.
    pub(crate) fn new(plan: &PodPlan) -> Self {
        let state = |container: &ContainerPlan| ContainerState {
            name: container.name.clone(),
            running: false,
            ready: false,
            restarts: 0,
            failure: None,
            unready: None,
        };
        Self {
            containers: plan.running().map(state).collect(),
            ..Self::default()
        }
    }

    /// Returns true if all containers are ready.
    pub(crate) fn ready(&self) -> bool {
        self.pause_pid.is_some() && self.containers.iter().all(|container| container.ready)
    }

    /// The first failure.
    pub(crate) fn failure(&self) -> Option<&str> {
        let mut stopped = self.containers.iter().filter(|container| !container.running);
        self.failure
            .as_deref()
            .or_else(|| stopped.find_map(|container| container.failure.as_deref()))
    }

    /// The first failed readiness probe.
    pub(crate) fn unready(&self) -> Option<&str> {
        let mut unready = self.containers.iter().filter(|container| !container.ready);
        unready.find_map(|container| container.unready.as_deref())
    }
}

/// An existing pod.
#[derive(Clone, Debug)]
pub(crate) struct PodRecord {
    pub(crate) plan: Arc<PodPlan>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) spec: Arc<PodSpec>,
    /// The owning Deployment; `None` for a bare pod.
    pub(crate) deployment: Option<DeploymentRef>,
    /// Hash of its template.
    pub(crate) hash: String,
    pub(crate) created: SystemTime,
    /// Number of pods created before it.
    pub(crate) sequence: u32,
    /// Start of its termination, and the stage.
    pub(crate) termination: Option<(SystemTime, Stage)>,
    pub(crate) runtime: Runtime,
}

impl PodRecord {
    /// Namespace and name.
    pub(crate) fn key(&self) -> Key {
        (self.plan.namespace.clone(), self.plan.name.clone())
    }

    /// The Deployment, else the pod: the object a user would look for.
    pub(crate) fn owner(&self) -> String {
        match &self.deployment {
            Some(DeploymentRef { namespace, name }) => format!("Deployment {namespace}/{name}"),
            None => format!("Pod {}/{}", self.plan.namespace, self.plan.name),
        }
    }

    /// Returns true for a pod of the workload with this Deployment or key.
    pub(crate) fn belongs_to(&self, deployment: Option<&DeploymentRef>, (namespace, name): &Key) -> bool {
        self.deployment.as_ref() == deployment
            && (deployment.is_some() || self.plan.namespace == *namespace && self.plan.name == *name)
    }

    /// Returns true while the pod terminates.
    pub(crate) fn terminating(&self) -> bool {
        self.termination.is_some()
    }
}

/// Everything that the rest of the mesh reads.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Publication {
    /// Generated objects by file name.
    pub(crate) objects: BTreeMap<String, String>,
    /// Contents of /etc/hosts by pod.
    pub(crate) hosts: BTreeMap<Key, String>,
    /// Translation rules; `None` before the first publication.
    pub(crate) table: Option<Table>,
}

/// State of the local cluster.
#[derive(Clone)]
pub(crate) struct Observed {
    pub(crate) pods: BTreeMap<Key, PodRecord>,
    pub(crate) published: Arc<Publication>,
    /// Number of pods created so far.
    pub(crate) created: u32,
    pub(crate) now: SystemTime,
}
