//! The controllers: from the desired and the observed state to the next actions. Pure.
//!
//! [`diff`] looks at everything each time; it is called whenever a manifest, a pod or an order changes. Endpoints
//! without a terminating pod are published before the pod is signalled.

mod objects;
pub(crate) mod observed;
mod publication;
mod rollout;
mod services;
pub(crate) mod status;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
    time::SystemTime,
};

use destination_k8s::ObjectRef;

use self::{
    observed::{Observed, PodRecord, Publication, Runtime, Stage},
    publication::publication,
    rollout::{Existing, Step},
};
use crate::plan::{
    Desired, Workload,
    names::{Key, POD_NET, short_hash, stable_hash},
};

/// Number of pod addresses: 10.42.0.0/16 without its ends and the supervisor's.
const POD_ADDRESSES: u32 = 65_000;
/// First pod address; the one before it is the supervisor's.
const FIRST_ADDRESS: u32 = u32::from_be_bytes([POD_NET[0], POD_NET[1], 0, 2]);

/// A step of the node towards the desired state.
#[derive(Debug)]
pub(crate) enum Action {
    /// Removes the files of a terminated pod.
    Remove(Key),
    /// Creates a pod.
    Create(Box<PodRecord>),
    /// Publishes the state of the cluster.
    Publish(Publication),
    /// Terminates a pod, or speeds up its termination.
    Terminate { key: Key, since: SystemTime, stage: Stage },
    /// Reports a workload that cannot run as it is written.
    Warn { owner: ObjectRef, warning: Warning },
}

/// A problem of a workload.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Warning {
    /// Its pods are not started, for this reason.
    NotStarted(String),
    /// Fields that have no effect here.
    Ignored(Vec<&'static str>),
}

/// Actions that lead from the observed state towards the desired one.
pub(crate) fn diff(desired: &Desired, observed: &Observed) -> Vec<Action> {
    let mut next = Next::new(observed);
    for workload in &desired.workloads {
        next.roll_out(desired, workload);
    }
    next.terminate_undesired(desired);
    let publication = publication(desired, &next.pods);
    if *observed.published != publication {
        next.actions.push(Action::Publish(publication));
    }
    next.actions.append(&mut next.terminations);
    next.actions
}

/// The state after the actions so far.
struct Next {
    pods: BTreeMap<Key, PodRecord>,
    created: u32,
    now: SystemTime,
    actions: Vec<Action>,
    /// Kept apart, because they follow the publication.
    terminations: Vec<Action>,
}

impl Next {
    fn new(observed: &Observed) -> Self {
        let (gone, pods): (BTreeMap<_, _>, BTreeMap<_, _>) = observed
            .pods
            .clone()
            .into_iter()
            .partition(|(_, pod)| pod.runtime.terminated);
        Self {
            pods,
            created: observed.created,
            now: observed.now,
            actions: gone.into_keys().map(Action::Remove).collect(),
            terminations: Vec::new(),
        }
    }

    fn roll_out(&mut self, desired: &Desired, workload: &Workload) {
        if let Some(reason) = &workload.refusal {
            // Pods of the last good template stay, as in a cluster, where the API server refuses the object.
            self.warn(workload, Warning::NotStarted(reason.clone()));
            return;
        }
        let owner = workload.key();
        let own = |pod: &&PodRecord| pod.belongs_to(workload.deployment.as_ref(), &owner);
        let all = self.pods.values().filter(own).count();
        let mut pods: Vec<_> = self
            .pods
            .values()
            .filter(own)
            .filter(|pod| !pod.terminating())
            .collect();
        pods.sort_by_key(|pod| pod.sequence);
        let existing: Vec<_> = pods
            .iter()
            .map(|pod| Existing {
                key: pod.sequence,
                current: pod.hash == workload.hash,
                ready: pod.runtime.ready(),
            })
            .collect();
        let Step { create, end } = rollout::next(workload.scale, &existing, all);
        let ending: Vec<_> = pods
            .iter()
            .filter(|pod| end.contains(&pod.sequence))
            .map(|pod| pod.key())
            .collect();
        for key in ending {
            self.terminate(&key, Stage::Terminate);
        }
        if !workload.held {
            for _ in 0..create {
                self.create(desired, workload);
            }
        }
    }

    fn create(&mut self, desired: &Desired, workload: &Workload) {
        let Some(address) = self.free_address() else {
            self.warn(workload, Warning::NotStarted("all pod addresses are in use".to_owned()));
            return;
        };
        let name = self.pod_name(workload);
        let plan = match workload.pod(&desired.config, &name, address) {
            Ok(plan) => Arc::new(plan),
            Err(reason) => return self.warn(workload, Warning::NotStarted(reason)),
        };
        let ignored = workload.ignored_fields();
        if !ignored.is_empty() {
            self.warn(workload, Warning::Ignored(ignored));
        }
        let record = PodRecord {
            labels: workload.labels.clone(),
            annotations: workload.annotations.clone(),
            spec: workload.spec.clone(),
            deployment: workload.deployment.clone(),
            hash: workload.hash.clone(),
            created: self.now,
            sequence: self.created,
            termination: None,
            runtime: Runtime::new(&plan),
            plan,
        };
        self.created += 1;
        self.pods.insert(record.key(), record.clone());
        self.actions.push(Action::Create(Box::new(record)));
    }

    fn pod_name(&self, workload: &Workload) -> String {
        let (namespace, name) = workload.key();
        if workload.deployment.is_none() {
            return name;
        }
        let suffix = |salt: u32| short_hash(stable_hash(&(&namespace, &name, self.created, salt)), 5);
        let mut names = (0..).map(|salt| format!("{name}-{}-{}", workload.hash, suffix(salt)));
        let is_free = |candidate: &String| !self.pods.contains_key(&(namespace.clone(), candidate.clone()));
        names.find(is_free).expect("there are fewer pods than suffixes")
    }

    /// A free address. A released one is reused as late as possible, so that a client that still uses the address of
    /// the old pod does not reach a new one.
    fn free_address(&self) -> Option<Ipv4Addr> {
        let used: BTreeSet<_> = self.pods.values().map(|pod| pod.plan.address).collect();
        (0..POD_ADDRESSES)
            .map(|step| Ipv4Addr::from(FIRST_ADDRESS + self.created.wrapping_add(step) % POD_ADDRESSES))
            .find(|address| !used.contains(address))
    }

    fn terminate_undesired(&mut self, desired: &Desired) {
        let is_desired = |pod: &PodRecord| {
            let mut workloads = desired.workloads.iter();
            workloads.any(|workload| pod.belongs_to(workload.deployment.as_ref(), &workload.key()))
        };
        let undesired: Vec<_> = self
            .pods
            .values()
            .filter(|pod| !is_desired(pod))
            .map(PodRecord::key)
            .collect();
        let stage = if desired.shutting_down {
            Stage::Quit
        } else {
            Stage::Terminate
        };
        for key in undesired {
            self.terminate(&key, stage);
        }
    }

    fn terminate(&mut self, key: &Key, stage: Stage) {
        let Some(pod) = self.pods.get_mut(key) else { return };
        let (since, now) = pod.termination.unwrap_or((self.now, Stage::Run));
        if now < stage {
            pod.termination = Some((since, stage));
            self.terminations.push(Action::Terminate {
                key: key.clone(),
                since,
                stage,
            });
        }
    }

    fn warn(&mut self, workload: &Workload, warning: Warning) {
        self.actions.push(Action::Warn {
            owner: workload.owner.clone(),
            warning,
        });
    }
}

#[cfg(test)]
mod tests;
