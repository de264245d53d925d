//! `linkerd-identity-data-plane` and `linkerd-data-plane` (`--proxy`): sidecars are ready, have the control plane's
//! version, and valid certificates under its anchors.

use std::time::{Duration, UNIX_EPOCH};

use proxy_metrics::names::CERT_EXPIRATION;
use serde_json::Value;

use super::{
    control_plane::{has_ended, proxy_is_ready},
    identity::anchors,
    versions::control_plane,
    webhooks::is_injected,
};
use crate::{
    Category, Check, Facts, ObjectKind, Outcome, Scope,
    facts::{annotation, full_name, items, label, object_name, object_namespace, view_pod},
};

const RESTART: &str = "run `kubectl rollout restart` on their workloads";

pub(super) fn categories(scope: &Scope) -> Vec<Category> {
    let identity = vec![
        Check::new("data plane proxies certificate match CA", same_anchors)
            .hint(format!(
                "their trust anchors differ from the control plane's: {RESTART}"
            ))
            .warning(),
        Check::new("data plane proxies have valid certificates", certified)
            .hint("run `kubectl logs POD -c linkerd-proxy` and `mesh identity POD`")
            .retried(),
        Check::new("every data plane proxy was queried for its certificate", all_queried)
            .hint("check namespace by namespace: `mesh check --proxy -n NAMESPACE`")
            .only_if(|facts| facts.proxies_left > 0)
            .warning(),
    ];
    let mut checks = Vec::new();
    if let Some(namespace) = scope.namespace.clone() {
        checks.push(
            Check::new("data plane namespace exists", move |facts| {
                super::control_plane::has(facts, ObjectKind::Namespaces, &[&namespace])
            })
            .hint("select another one with -n")
            .fatal(),
        );
    }
    checks.extend([
        Check::new("data plane proxies are ready", ready)
            .hint("run `kubectl logs POD -c linkerd-proxy`")
            .retried(),
        Check::new("data plane is up-to-date", current)
            .hint(format!("their version differs: {RESTART}"))
            .warning(),
        Check::new("data plane pod labels are configured correctly", |facts| {
            misplaced(facts, ObjectKind::Pods)
        })
        .hint("these keys are annotations: move them there from the labels")
        .warning(),
        Check::new("data plane service labels are configured correctly", |facts| {
            misplaced(facts, ObjectKind::Services)
        })
        .hint("these keys are annotations: move them there from the labels")
        .warning(),
        Check::new("opaque ports are properly annotated", opaque)
            .hint("set the same config.linkerd.io/opaque-ports on the Service and its pods")
            .warning(),
    ]);
    vec![
        Category::new("linkerd-identity-data-plane", identity),
        Category::new("linkerd-data-plane", checks),
    ]
}

fn in_scope(facts: &Facts, object: &Value) -> bool {
    let namespace = facts.scope.namespace.as_deref();
    namespace.is_none_or(|namespace| namespace == object_namespace(object))
}

/// Lists the injected pods, except the control plane's.
fn pods(facts: &Facts) -> Result<Vec<&Value>, String> {
    let own = &facts.scope.control_plane;
    let all = facts.list(ObjectKind::Pods)?.iter();
    Ok(all
        .filter(|pod| in_scope(facts, pod) && is_injected(pod) && !has_ended(pod) && object_namespace(pod) != own)
        .collect())
}

/// Lists the injected pods for which `is_wrong` returns a reason.
fn wrong(facts: &Facts, is_wrong: impl Fn(&Value) -> Option<String>) -> Result<Vec<String>, String> {
    Ok(pods(facts)?
        .into_iter()
        .filter_map(|pod| is_wrong(pod).map(|why| format!("{}{why}", full_name(pod))))
        .collect())
}

fn outcome(found: Result<Vec<String>, String>, sentence: impl FnOnce(&str) -> String) -> Outcome {
    match found {
        Ok(names) => Outcome::fail_if_any(&names, sentence),
        Err(error) => Outcome::Unknown(error),
    }
}

fn ready(facts: &Facts) -> Outcome {
    match pods(facts) {
        Ok(pods) if pods.is_empty() => {
            let place = facts
                .scope
                .namespace
                .as_ref()
                .map_or("any namespace".to_owned(), |n| format!("the namespace {n}"));
            return Outcome::Fail(format!("no pod with a sidecar is running in {place}"));
        }
        _ => {}
    }
    let found = wrong(facts, |pod| (!proxy_is_ready(pod)).then(String::new));
    outcome(found, |names| format!("the sidecar is not ready in {names}"))
}

fn current(facts: &Facts) -> Outcome {
    let Some(version) = control_plane(facts) else {
        return Outcome::Skip;
    };
    let found = wrong(facts, |pod| {
        let of = annotation(pod, "linkerd.io/proxy-version");
        (!of.is_empty() && of != version).then(|| format!(" ({of})"))
    });
    outcome(found, |names| {
        format!("the control plane is {version}, but the sidecars differ: {names}")
    })
}

fn same_anchors(facts: &Facts) -> Outcome {
    let Some(anchors) = anchors(facts) else {
        return Outcome::Skip;
    };
    let lines = |text: &str| {
        text.lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect::<String>()
    };
    let expected = lines(anchors);
    let found = wrong(facts, |pod| {
        // If read from the ConfigMap, it has no value here, and is the same.
        let has = view_pod(pod, |pod| {
            let anchors = pod.sidecar_env("LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS")?;
            Some(lines(anchors))
        })?;
        (has != expected).then(String::new)
    });
    outcome(found, |names| format!("different trust anchors: {names}"))
}

fn certified(facts: &Facts) -> Outcome {
    let mut sick = Vec::new();
    for (pod, metrics) in &facts.proxies {
        match metrics {
            Err(error) => sick.push(format!("{pod} ({error})")),
            Ok(metrics) => match expiry(metrics) {
                None => sick.push(format!("{pod} (no certificate)")),
                Some(end) if UNIX_EPOCH + end <= facts.now => sick.push(format!("{pod} (expired)")),
                Some(_) => {}
            },
        }
    }
    Outcome::fail_if_any(&sick, |names| format!("no valid certificate: {names}"))
}

fn all_queried(facts: &Facts) -> Outcome {
    let (queried, left) = (facts.proxies.len(), facts.proxies_left);
    if left == 0 {
        return Outcome::Pass;
    }
    Outcome::Fail(format!("{queried} were queried, {left} were not"))
}

/// Returns the expiry of the leaf, as time since 1970.
fn expiry(metrics: &str) -> Option<Duration> {
    let line = metrics.lines().find(|line| line.starts_with(CERT_EXPIRATION.name))?;
    let seconds: f64 = line.rsplit_once(' ')?.1.parse().ok()?;
    (seconds > 0.0).then(|| Duration::from_secs_f64(seconds))
}

/// Annotations among the labels have no effect.
fn misplaced(facts: &Facts, what: ObjectKind) -> Outcome {
    let objects = match facts.list(what) {
        Ok(objects) => objects,
        Err(error) => return Outcome::Unknown(error),
    };
    let found: Vec<String> = objects
        .iter()
        .filter(|object| in_scope(facts, object))
        .filter(|object| !label(object, destination_k8s::keys::INJECT).is_empty())
        .map(full_name)
        .collect();
    Outcome::fail_if_any(&found, |names| {
        format!("{} has no effect as a label: {names}", destination_k8s::keys::INJECT)
    })
}

/// If only the Service or only its pods mark a port as opaque, they disagree about the first bytes.
fn opaque(facts: &Facts) -> Outcome {
    let key = destination_k8s::keys::OPAQUE_PORTS;
    let (Ok(services), Ok(pods)) = (facts.list(ObjectKind::Services), pods(facts)) else {
        return Outcome::Skip;
    };
    let mut differ = Vec::new();
    for service in services.iter().filter(|service| in_scope(facts, service)) {
        let marked = annotation(service, key);
        let Some(selector) = service["spec"]["selector"]
            .as_object()
            .filter(|selector| !marked.is_empty() && !selector.is_empty())
        else {
            continue;
        };
        let selected = pods.iter().filter(|pod| {
            object_namespace(pod) == object_namespace(service)
                && selector
                    .iter()
                    .all(|(key, value)| pod["metadata"]["labels"][key] == *value)
        });
        let ports: Vec<&str> = marked.split(',').map(str::trim).collect();
        for pod in selected {
            let of_pod: Vec<&str> = annotation(pod, key).split(',').map(str::trim).collect();
            let listens = |port: &str| {
                items(pod, "/spec/containers")
                    .flat_map(|container| items(container, "/ports"))
                    .any(|listed| {
                        listed["containerPort"]
                            .as_u64()
                            .is_some_and(|number| number.to_string() == port)
                    })
            };
            let missing: Vec<&str> = ports
                .iter()
                .copied()
                .filter(|port| listens(port) && !of_pod.contains(port))
                .collect();
            if !missing.is_empty() {
                differ.push(format!(
                    "port {} of the Service {} is not opaque in the pod {}",
                    missing.join(", "),
                    object_name(service),
                    full_name(pod)
                ));
            }
        }
    }
    Outcome::fail_if_any(&differ, |names| names.to_owned())
}
