//! Table tests of the controllers: desired and observed state in, actions out.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use destination_k8s::{Object, ObjectRef};
use serde_json::Value;

use super::{
    Action, Warning, diff,
    observed::{Observed, Publication, Stage},
    status::{self, StartProgress},
};
use crate::plan::{
    Desired, Inputs,
    tests::{deployment, desired, objects, pod, service},
};

/// A node that executes every action at once.
struct FakeNode(Observed);

impl FakeNode {
    fn new() -> Self {
        Self(Observed {
            pods: BTreeMap::new(),
            published: Arc::default(),
            created: 0,
            now: SystemTime::UNIX_EPOCH,
        })
    }

    /// Executes the difference and returns a word for each action.
    fn reconcile(&mut self, desired: &Desired) -> Vec<String> {
        let actions = diff(desired, &self.0);
        actions.into_iter().map(|action| self.act(action)).collect()
    }

    fn act(&mut self, action: Action) -> String {
        match action {
            Action::Remove((_, name)) => {
                self.0.pods.retain(|key, _| key.1 != name);
                "remove".to_owned()
            }
            Action::Create(record) => {
                self.0.created = record.sequence + 1;
                self.0.pods.insert(record.key(), *record);
                "create".to_owned()
            }
            Action::Publish(publication) => {
                self.0.published = Arc::new(publication);
                "publish".to_owned()
            }
            Action::Terminate { key, since, stage } => {
                self.0.pods.get_mut(&key).expect("a pod").termination = Some((since, stage));
                format!("terminate {stage:?}")
            }
            Action::Warn { owner, warning } => format!("{owner} {warning:?}"),
        }
    }

    /// Makes all pods ready, and completes terminations.
    fn settle(&mut self) {
        for pod in self.0.pods.values_mut() {
            pod.runtime.pause_pid = Some(1);
            for container in &mut pod.runtime.containers {
                (container.running, container.ready) = (true, true);
            }
            pod.runtime.terminated = pod.termination.is_some();
        }
    }

    fn published(&self) -> &Publication {
        &self.0.published
    }
}

fn plan(values: &[Value]) -> Desired {
    planned(&objects(values), |_| {})
}

fn planned(objects: &BTreeMap<ObjectRef, Object>, change: impl FnOnce(&mut Inputs<'_>)) -> Desired {
    desired(objects, change)
}

#[test]
fn creates_and_publishes_pods_and_is_then_idle() {
    let desired = plan(&[deployment("web", "run", 2), service("web")]);
    let mut node = FakeNode::new();
    assert_eq!(node.reconcile(&desired), ["create", "create", "publish"]);
    assert!(node.reconcile(&desired).is_empty());
    node.settle();
    assert_eq!(node.reconcile(&desired), ["publish"], "ready endpoints");
    assert!(node.reconcile(&desired).is_empty());
}

#[test]
fn publishes_endpoints_before_it_terminates_a_pod() {
    let mut node = FakeNode::new();
    node.reconcile(&plan(&[deployment("web", "run", 1), service("web")]));
    node.settle();
    let without = plan(&[deployment("web", "run", 0), service("web")]);
    assert_eq!(node.reconcile(&without), ["publish", "terminate Terminate"]);
    node.settle();
    assert_eq!(node.reconcile(&without), ["remove", "publish"]);
    let slice = &node.published().objects["EndpointSlice_ns_web-0.yaml"];
    assert!(slice.contains("\"endpoints\":[]"), "{slice}");
}

#[test]
fn rolls_out_a_changed_template_one_by_one() {
    let mut node = FakeNode::new();
    node.reconcile(&plan(&[deployment("web", "old", 2)]));
    node.settle();
    let changed = plan(&[deployment("web", "new", 2)]);
    node.reconcile(&changed);
    let ready = |node: &FakeNode| node.0.pods.values().filter(|pod| pod.runtime.ready()).count();
    for _ in 0..4 {
        assert!(ready(&node) >= 2);
        node.settle();
        node.reconcile(&changed);
    }
    node.settle();
    node.reconcile(&changed);
    let programs: Vec<_> = node
        .0
        .pods
        .values()
        .map(|pod| &pod.plan.containers[0].argv[0])
        .collect();
    assert_eq!(programs, ["new", "new"]);
}

#[test]
fn recreates_a_changed_bare_pod_under_its_name() {
    let mut node = FakeNode::new();
    node.reconcile(&plan(&[pod("client", "old")]));
    node.settle();
    let changed = plan(&[pod("client", "new")]);
    assert_eq!(node.reconcile(&changed), ["publish", "terminate Terminate"]);
    assert!(node.reconcile(&changed).is_empty(), "the old one is still terminating");
    node.settle();
    assert_eq!(node.reconcile(&changed), ["remove", "create", "publish"]);
}

#[test]
fn terminates_pods_without_a_workload() {
    let mut node = FakeNode::new();
    node.reconcile(&plan(&[deployment("web", "run", 1), pod("client", "run")]));
    let actions = node.reconcile(&plan(&[]));
    assert_eq!(actions, ["publish", "terminate Terminate", "terminate Terminate"]);
}

#[test]
fn a_shutdown_speeds_up_terminations() {
    let mut node = FakeNode::new();
    let objects = objects(&[deployment("web", "run", 1)]);
    node.reconcile(&planned(&objects, |_| {}));
    node.reconcile(&plan(&[]));
    let quit = planned(&objects, |inputs| inputs.shutting_down = true);
    let actions = node.reconcile(&quit);
    assert!(actions.contains(&"terminate Quit".to_owned()), "{actions:?}");
    let pod = node.0.pods.values().next().expect("a pod");
    assert_eq!(pod.termination, Some((SystemTime::UNIX_EPOCH, Stage::Quit)));
}

#[test]
fn held_workloads_create_nothing_and_keep_what_runs() {
    let objects = objects(&[deployment("web", "run", 1)]);
    let held = planned(&objects, |inputs| inputs.control_plane_up = false);
    let mut node = FakeNode::new();
    assert_eq!(node.reconcile(&held), ["publish"]);
    node.reconcile(&planned(&objects, |_| {}));
    assert!(node.reconcile(&held).is_empty());
}

#[test]
fn a_refused_workload_keeps_its_pods() {
    let mut node = FakeNode::new();
    node.reconcile(&plan(&[deployment("web", "run", 1)]));
    let mut broken = deployment("web", "other", 1);
    broken["spec"]["selector"]["matchLabels"]["app"] = "db".into();
    let actions = diff(&plan(&[broken]), &node.0);
    let [Action::Warn { owner, warning }] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(owner.to_string(), "Deployment ns/web");
    assert!(matches!(warning, Warning::NotStarted(_)));
}

#[test]
fn an_unsupported_field_is_reported_and_nothing_is_created() {
    let mut image = deployment("web", "run", 1);
    image["spec"]["template"]["spec"]["containers"][0]["command"] = Value::Null;
    let mut node = FakeNode::new();
    let actions = node.reconcile(&plan(&[image]));
    assert!(actions[0].contains("it has no command"), "{actions:?}");
    assert!(node.0.pods.is_empty());
}

#[test]
fn pods_have_distinct_names_and_addresses_and_reuse_addresses_last() {
    let mut node = FakeNode::new();
    node.reconcile(&plan(&[deployment("web", "run", 3)]));
    node.settle();
    let address = |node: &FakeNode| -> Vec<_> { node.0.pods.values().map(|pod| pod.plan.address).collect() };
    let mut before = address(&node);
    before.sort();
    before.dedup();
    assert_eq!(before.len(), 3);
    node.reconcile(&plan(&[]));
    node.settle();
    node.reconcile(&plan(&[deployment("web", "run", 1)]));
    assert!(!before.contains(&address(&node)[0]), "a fresh address");
}

#[test]
fn the_start_waits_for_ready_pods_and_accepts_failed_ones() {
    let desired = plan(&[deployment("web", "run", 1)]);
    let mut node = FakeNode::new();
    node.reconcile(&desired);
    let progress = |node: &FakeNode| status::start_progress(&desired, &node.0, true);
    let waiting = StartProgress::Waiting {
        ready: 0,
        total: 1,
        waiting: vec!["ns/web".to_owned()],
    };
    assert_eq!(progress(&node), waiting);
    let pod = node.0.pods.values_mut().next().expect("a pod");
    pod.runtime.containers[0].failure = Some("exited with code 1".to_owned());
    assert_eq!(progress(&node), StartProgress::Settled);
}

#[test]
fn finds_pods_by_prefix_and_deployment_and_explains_refused_ones() {
    let desired = plan(&[deployment("web", "run", 1), pod("client", "run")]);
    let mut node = FakeNode::new();
    node.reconcile(&desired);
    let owner = ObjectRef::new(destination_k8s::Kind::Deployment, "ns", "image");
    let refusals = [(owner, "it has no command".to_owned())].into();
    let find = |text: &str| status::details(&node.0, &refusals, std::path::Path::new("/state"), text);
    assert!(find("deploy/web").expect("found").name.starts_with("web-"));
    assert_eq!(find("ns/cli").expect("found").name, "client");
    let refused = find("deploy/image").expect_err("not started");
    assert_eq!(refused, "Deployment ns/image has not started: it has no command");
    let missing = find("nothing").expect_err("missing");
    assert!(missing.contains("no pod matches \"nothing\""), "{missing}");
}

#[test]
fn a_pod_that_is_not_ready_has_the_reason_in_its_status() {
    let mut node = FakeNode::new();
    node.reconcile(&plan(&[pod("client", "run")]));
    let pod = node.0.pods.values_mut().next().expect("a pod");
    pod.runtime.pause_pid = Some(1);
    pod.runtime.containers[0].running = true;
    pod.runtime.containers[0].unready = Some("GET / on port 80: status 503".to_owned());
    let status = &status::statuses(&node.0)[0].status;
    assert_eq!(status, "NotReady: GET / on port 80: status 503");
}
