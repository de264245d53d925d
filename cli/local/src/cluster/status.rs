//! Answers for users: the list of pods, the details of one pod, the progress of a start. Pure.

use std::{collections::BTreeMap, path::Path};

use destination_k8s::ObjectRef;

use super::observed::{ContainerState, Observed, PodRecord};
use crate::{
    control::{ContainerDetails, PodDetails, PodStatus},
    plan::{
        Desired,
        builtin::ESSENTIAL,
        names::{CONTROL_PLANE, Key},
    },
    state,
};

/// Restarts of an essential container after which the start fails.
const RESTARTS_MAX: u32 = 4;

/// Progress of a start.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum StartProgress {
    /// Not all pods are ready yet.
    Waiting {
        ready: usize,
        total: usize,
        /// Workloads that are not ready.
        waiting: Vec<String>,
    },
    /// All pods are ready or have failed.
    Settled,
    /// The start cannot succeed.
    Failed {
        message: String,
        /// Pod and container whose log explains it.
        log: Option<(Key, String)>,
    },
}

/// Returns true if both essential Deployments have a ready pod.
pub(crate) fn control_plane_ready(observed: &Observed) -> bool {
    let is_ready = |name: &&str| {
        let mut pods = observed.pods.values();
        pods.any(|pod| is_essential(pod, &[*name]) && pod.runtime.ready())
    };
    ESSENTIAL.iter().all(is_ready)
}

fn is_essential(pod: &PodRecord, names: &[&str]) -> bool {
    let deployment = pod.deployment.as_ref();
    deployment.is_some_and(|of| of.namespace == CONTROL_PLANE && names.contains(&of.name.as_str()))
}

/// All pods.
pub(crate) fn statuses(observed: &Observed) -> Vec<PodStatus> {
    let status = |pod: &PodRecord| {
        let containers = &pod.runtime.containers;
        let deployment = pod.deployment.as_ref();
        PodStatus {
            namespace: pod.plan.namespace.clone(),
            name: pod.plan.name.clone(),
            deployment: deployment.map(|deployment| deployment.name.clone()).unwrap_or_default(),
            status: phase(pod),
            ready: pod.runtime.ready() && !pod.terminating(),
            containers: (containers.iter().filter(|state| state.ready).count(), containers.len()),
            restarts: containers.iter().map(|state| state.restarts).sum(),
            address: pod.plan.address.to_string(),
            meshed: pod.plan.sidecar.is_some(),
            age: observed.now.duration_since(pod.created).unwrap_or_default().as_secs(),
        }
    };
    observed.pods.values().map(status).collect()
}

fn phase(pod: &PodRecord) -> String {
    let runtime = &pod.runtime;
    if pod.terminating() {
        return "Terminating".to_owned();
    }
    match runtime.failure() {
        Some(failure) => failure.to_owned(),
        None if runtime.ready() => "Running".to_owned(),
        None if runtime.containers.iter().all(|state| state.running) => match runtime.unready() {
            Some(reason) => format!("NotReady: {reason}"),
            None => "NotReady".to_owned(),
        },
        None => "Starting".to_owned(),
    }
}

/// The pod that `text` names, as `exec` and `logs` need it; `dir` is the state directory.
pub(crate) fn details(
    observed: &Observed,
    refusals: &BTreeMap<ObjectRef, String>,
    dir: &Path,
    text: &str,
) -> Result<PodDetails, String> {
    let pod = find(observed, refusals, text)?;
    let runtime = &pod.runtime;
    let found = |name: &str| runtime.containers.iter().find(|state| state.name == name);
    let containers = pod.plan.running().map(|container| ContainerDetails {
        name: container.name.clone(),
        cwd: container.cwd.clone(),
        env: container.env.clone(),
        log: state::log(dir, &pod.plan.namespace, &pod.plan.name, &container.name),
        failure: found(&container.name).and_then(|state| state.failure.clone()),
    });
    Ok(PodDetails {
        namespace: pod.plan.namespace.clone(),
        name: pod.plan.name.clone(),
        pause_pid: runtime.pause_pid,
        failure: runtime.failure.clone(),
        containers: containers.collect(),
    })
}

/// Selector of pods as users write it.
struct PodQuery<'a> {
    namespace: Option<&'a str>,
    name: &'a str,
    is_deployment: bool,
}

impl<'a> PodQuery<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        let parts: Vec<_> = text.split('/').collect();
        let is_deploy = |word: &str| matches!(word, "deploy" | "deployment" | "deployments");
        let (namespace, is_deployment, name) = match parts[..] {
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
        Ok(Self {
            namespace,
            name,
            is_deployment,
        })
    }

    fn matches(&self, pod: &PodRecord) -> bool {
        self.namespace.is_none_or(|namespace| pod.plan.namespace == namespace)
            && if self.is_deployment {
                pod.deployment.as_ref().is_some_and(|of| of.name == self.name)
            } else {
                pod.plan.name.starts_with(self.name)
            }
    }

    /// Returns true for the object itself, not only for a prefix of its name.
    fn names(&self, owner: &ObjectRef) -> bool {
        self.namespace.is_none_or(|namespace| *owner.namespace == *namespace) && *owner.name == *self.name
    }
}

/// Finds a pod by name, prefix, namespace/name, or deploy/name; of several, a ready one.
fn find<'a>(
    observed: &'a Observed,
    refusals: &BTreeMap<ObjectRef, String>,
    text: &str,
) -> Result<&'a PodRecord, String> {
    let query = PodQuery::parse(text)?;
    let mut found: Vec<_> = observed.pods.values().filter(|pod| query.matches(pod)).collect();
    if let Some(exact) = found.iter().find(|pod| pod.plan.name == query.name) {
        return Ok(exact);
    }
    found.sort_by_key(|pod| (pod.terminating(), !pod.runtime.ready()));
    let mut owners: Vec<_> = found.iter().map(|pod| pod.owner()).collect();
    owners.sort();
    owners.dedup();
    match (found.first(), owners.len()) {
        (Some(pod), 1) => Ok(pod),
        (Some(_), _) => Err(format!(
            "{text:?} is ambiguous: it matches pods of {}",
            owners.join(" and ")
        )),
        (None, _) => match refusals.iter().find(|(owner, _)| query.names(owner)) {
            Some((owner, reason)) => Err(format!("{owner} has not started: {reason}")),
            None => Err(format!("no pod matches {text:?}; `mesh local status` lists them")),
        },
    }
}

/// Progress of the start.
pub(crate) fn start_progress(desired: &Desired, observed: &Observed, control_plane_up: bool) -> StartProgress {
    if !control_plane_up && let Some(failed) = control_plane_failure(observed) {
        return failed;
    }
    let mut total = 0;
    let mut waiting = Vec::new();
    for workload in &desired.workloads {
        let key = workload.key();
        let own = |pod: &&PodRecord| pod.belongs_to(workload.deployment.as_ref(), &key);
        let pods = observed.pods.values().filter(own);
        let settled = pods
            .clone()
            .filter(|pod| !pod.terminating() && (pod.runtime.ready() || has_failed(pod)))
            .count();
        // A refused workload has no pods and will not get any.
        let refused = control_plane_up && pods.count() == 0;
        total += workload.scale.replicas;
        if settled < workload.scale.replicas && !refused {
            waiting.push(format!("{}/{}", key.0, key.1));
        }
    }
    if waiting.is_empty() && control_plane_up {
        return StartProgress::Settled;
    }
    let is_ready = |pod: &&PodRecord| !pod.terminating() && pod.runtime.ready();
    let ready = observed.pods.values().filter(is_ready).count();
    StartProgress::Waiting { ready, total, waiting }
}

/// Reason that the control plane cannot start.
fn control_plane_failure(observed: &Observed) -> Option<StartProgress> {
    for pod in observed.pods.values().filter(|pod| is_essential(pod, &ESSENTIAL)) {
        let failed = |message, log| Some(StartProgress::Failed { message, log });
        if let Some(failure) = &pod.runtime.failure {
            return failed(format!("{}: {failure}", pod.owner()), None);
        }
        for ContainerState {
            name,
            failure,
            restarts,
            ..
        } in &pod.runtime.containers
        {
            let Some(failure) = failure else { continue };
            if failure.starts_with("command ") {
                let message = format!("{failure}; `cargo build --release` builds it beside `mesh`");
                return failed(message, None);
            }
            if *restarts >= RESTARTS_MAX {
                let message = format!("{}: container {name}: {failure}", pod.owner());
                return failed(message, Some((pod.key(), name.clone())));
            }
        }
    }
    None
}

/// Returns true if a pod has failed.
fn has_failed(pod: &PodRecord) -> bool {
    let mut containers = pod.runtime.containers.iter();
    pod.runtime.failure.is_some() || containers.any(|state| state.failure.is_some() && !state.ready)
}

/// Failures of the running pods, with their owners.
pub(crate) fn failures(observed: &Observed) -> Vec<String> {
    let mut notes = Vec::new();
    for pod in observed.pods.values().filter(|pod| !pod.terminating()) {
        let owner = pod.owner();
        notes.extend(pod.runtime.failure.iter().map(|failure| format!("{owner}: {failure}")));
        for container in &pod.runtime.containers {
            let failure = container.failure.iter();
            notes.extend(failure.map(|failure| format!("{owner}: container {}: {failure}", container.name)));
        }
    }
    notes
}
