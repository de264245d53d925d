//! Answers for users: the list of pods, the details of one pod, the progress of a start.

use std::time::SystemTime;

use destination_k8s::Object;
use serde_json::Value;

use super::{
    builtin,
    cluster::{Cluster, PodEntry},
    lifecycle::{Stage, log_path},
    sidecar,
};
use crate::{
    control::{ContainerDetails, PodDetails, PodStatus, Reply, Request},
    start::Progress,
    state,
};

/// Restarts of an essential container after which the start fails.
const HOPELESS: u32 = 4;
/// Lines of its log in the error.
const LOG_LINES: usize = 3;

/// Progress of a start.
pub(super) enum Start {
    /// Not all pods are ready yet.
    Waiting(Progress),
    /// All pods are ready or have failed.
    Settled,
    /// The start cannot succeed.
    Hopeless(String),
}

impl Cluster {
    /// Answers a request.
    pub(super) fn answer(&mut self, request: Request) -> Reply<Value> {
        let json = |value: serde_json::Result<Value>| value.map_err(|error| error.to_string());
        match request {
            Request::Status => json(serde_json::to_value(self.status())),
            Request::Pod(text) => json(serde_json::to_value(self.details(&text)?)),
            Request::Scale { deployment, replicas } => self.scale(&deployment, replicas).map(|()| Value::Null),
            Request::Restart(deployment) => self.restart(&deployment).map(|()| Value::Null),
            Request::Shutdown => {
                self.ending = Some(Stage::Quit);
                Ok(Value::Null)
            }
        }
    }

    fn status(&self) -> Vec<PodStatus> {
        let now = SystemTime::now();
        let one = |pod: &PodEntry| {
            let runtime = pod.runtime.borrow();
            let containers = &runtime.containers;
            PodStatus {
                namespace: pod.plan.namespace.clone(),
                name: pod.plan.name.clone(),
                deployment: pod
                    .deployment
                    .as_ref()
                    .map(|deployment| deployment.name.clone())
                    .unwrap_or_default(),
                status: phase(pod),
                ready: runtime.ready() && pod.ending.is_none(),
                containers: (containers.iter().filter(|state| state.ready).count(), containers.len()),
                restarts: containers.iter().map(|state| state.restarts).sum(),
                address: pod.plan.address.to_string(),
                meshed: pod.plan.sidecar.is_some(),
                age: now.duration_since(pod.created).unwrap_or_default().as_secs(),
            }
        };
        self.pods.values().map(one).collect()
    }

    fn details(&self, text: &str) -> Result<PodDetails, String> {
        let pod = self.find(text)?;
        let pause_pid = pod.runtime.borrow().pause_pid;
        let logs = state::logs(&self.config.dir);
        let container = |container: &super::plan::ContainerPlan| ContainerDetails {
            name: container.name.clone(),
            cwd: container.cwd.clone(),
            env: container.env.clone(),
            log: log_path(&logs, &pod.plan, &container.name).display().to_string(),
        };
        let sidecar = pod.plan.sidecar.as_ref().map(|sidecar| &sidecar.container);
        Ok(PodDetails {
            namespace: pod.plan.namespace.clone(),
            name: pod.plan.name.clone(),
            pause_pid: pause_pid.ok_or_else(|| format!("pod {} is still starting", pod.plan.name))?,
            containers: pod.plan.containers.iter().chain(sidecar).map(container).collect(),
        })
    }

    /// Finds a pod by name, prefix, namespace/name, or deploy/name; of several, a ready one.
    fn find(&self, text: &str) -> Result<&PodEntry, String> {
        let parts: Vec<_> = text.split('/').collect();
        let is_deploy = |word: &str| matches!(word, "deploy" | "deployment" | "deployments");
        let (namespace, deployment, name) = match parts[..] {
            [name] => (None, false, name),
            [kind, name] if is_deploy(kind) => (None, true, name),
            [namespace, name] => (Some(namespace), false, name),
            [namespace, kind, name] if is_deploy(kind) => (Some(namespace), true, name),
            _ => {
                return Err(format!(
                    "invalid pod {text:?}: expected NAME, NAMESPACE/NAME or deploy/NAME"
                ));
            }
        };
        let matches = |pod: &&PodEntry| {
            namespace.is_none_or(|namespace| pod.plan.namespace == namespace)
                && if deployment {
                    pod.deployment.as_ref().is_some_and(|of| of.name == name)
                } else {
                    pod.plan.name.starts_with(name)
                }
        };
        let mut found: Vec<_> = self.pods.values().filter(matches).collect();
        if let Some(exact) = found.iter().find(|pod| pod.plan.name == name) {
            return Ok(exact);
        }
        found.sort_by_key(|pod| (pod.ending.is_some(), !pod.runtime.borrow().ready()));
        let mut owners: Vec<_> = found.iter().map(|pod| pod.owner()).collect();
        owners.dedup();
        match (found.first(), owners.len()) {
            (None, _) => Err(format!("no pod matches {text:?}; `mesh local status` lists them")),
            (Some(pod), 1) => Ok(pod),
            _ => Err(format!(
                "{text:?} is ambiguous: it matches pods of {}",
                owners.join(" or ")
            )),
        }
    }

    /// Progress of the start.
    pub(super) fn start_progress(&self) -> Start {
        if let Some(sentence) = self.hopeless() {
            return Start::Hopeless(sentence);
        }
        let mut total = 0;
        let mut waiting = Vec::new();
        for object in self.objects.values() {
            let (name, namespace, count) = match object {
                Object::Deployment(deployment) => {
                    let meta = &deployment.metadata;
                    let count = self.scale_of(deployment).map_or(0, |wanted| wanted.replicas);
                    (meta.name.as_deref(), meta.namespace.as_deref(), count)
                }
                Object::Pod(pod) => (pod.metadata.name.as_deref(), pod.metadata.namespace.as_deref(), 1),
                _ => continue,
            };
            let (name, namespace) = (name.unwrap_or_default(), namespace.unwrap_or_default());
            let mine = self.pods.values().filter(|pod| {
                let of = pod
                    .deployment
                    .as_ref()
                    .map_or(pod.plan.name.as_str(), |deployment| deployment.name.as_str());
                pod.plan.namespace == namespace && of == name && pod.ending.is_none()
            });
            let settled = mine.filter(|pod| pod.runtime.borrow().ready() || broken(pod)).count();
            let unplanned = self.control_plane_up && !self.has_pods(namespace, name);
            total += count;
            if settled < count && !unplanned {
                waiting.push(format!("{namespace}/{name}"));
            }
        }
        if waiting.is_empty() && self.control_plane_up {
            return Start::Settled;
        }
        let ready = self
            .pods
            .values()
            .filter(|pod| pod.ending.is_none() && pod.runtime.borrow().ready())
            .count();
        Start::Waiting(Progress::Pods { ready, total, waiting })
    }

    // A refused Deployment has no pods and will not get any.
    fn has_pods(&self, namespace: &str, name: &str) -> bool {
        self.pods.values().any(|pod| {
            let of = pod
                .deployment
                .as_ref()
                .map_or(pod.plan.name.as_str(), |deployment| deployment.name.as_str());
            pod.plan.namespace == namespace && of == name
        })
    }

    /// Reason that the control plane cannot start.
    fn hopeless(&self) -> Option<String> {
        if self.control_plane_up {
            return None;
        }
        let essential = self.pods.values().filter(|pod| {
            let of = pod.deployment.as_ref();
            pod.plan.namespace == sidecar::CONTROL_PLANE
                && of.is_some_and(|of| builtin::ESSENTIAL.contains(&of.name.as_str()))
        });
        for pod in essential {
            let runtime = pod.runtime.borrow();
            if let Some(failure) = &runtime.failure {
                return Some(format!("{}: {failure}", pod.owner()));
            }
            for container in &runtime.containers {
                let Some(failure) = &container.failure else { continue };
                let missing = failure.starts_with("command ");
                if missing {
                    return Some(format!("{failure}; `cargo build --release` builds it beside `mesh`"));
                }
                if container.restarts >= HOPELESS {
                    let log = log_path(&state::logs(&self.config.dir), &pod.plan, &container.name);
                    let (owner, name) = (pod.owner(), &container.name);
                    return Some(format!(
                        "{owner}: container {name}: {failure}; its log ends with: {}",
                        tail(&log)
                    ));
                }
            }
        }
        None
    }
}

fn tail(log: &std::path::Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(LOG_LINES).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}

/// Returns true if a pod has failed.
fn broken(pod: &PodEntry) -> bool {
    let runtime = pod.runtime.borrow();
    runtime.failure.is_some()
        || runtime
            .containers
            .iter()
            .any(|state| state.failure.is_some() && !state.ready)
}

fn phase(pod: &PodEntry) -> String {
    let runtime = pod.runtime.borrow();
    if pod.ending.is_some() {
        return "Terminating".to_owned();
    }
    match runtime.failure() {
        Some(failure) => failure.to_owned(),
        None if runtime.ready() => "Running".to_owned(),
        None if runtime.containers.iter().all(|state| state.running) => "NotReady".to_owned(),
        None => "Starting".to_owned(),
    }
}
