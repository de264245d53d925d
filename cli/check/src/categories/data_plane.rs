//! `linkerd-identity-data-plane` and `linkerd-data-plane` (`--proxy`): are the sidecars ready, of the control plane's
//! version, and do they have valid certificates under its anchors.

use std::time::{Duration, UNIX_EPOCH};

use proxy_metrics::names::CERT_EXPIRATION;
use serde_json::Value;

use super::{
    control_plane::{is_over, proxy_is_ready},
    identity::anchors,
    versions::control_plane,
    webhooks::is_injected,
};
use crate::{
    Ask, Category, Check, Facts, Outcome, What,
    facts::{annotation, full_name, items, label, object_name, object_namespace},
};

const RESTART: &str = "`kubectl rollout restart` their workloads";

pub(super) fn categories(ask: &Ask) -> Vec<Category> {
    let identity = vec![
        Check::new("data plane proxies certificate match CA", same_anchors)
            .hint(format!(
                "they have other trust anchors than the control plane: {RESTART}"
            ))
            .warns(),
        Check::new("data plane proxies have valid certificates", certified)
            .hint("`kubectl logs POD -c linkerd-proxy` and `mesh identity POD` say more")
            .is_waited_for(),
        Check::new("every data plane proxy was asked for its certificate", all_asked)
            .hint("check namespace by namespace: `mesh check --proxy -n NAMESPACE`")
            .only_if(|facts| facts.proxies_left > 0)
            .warns(),
    ];
    let mut checks = Vec::new();
    if let Some(namespace) = ask.namespace.clone() {
        checks.push(
            Check::new("data plane namespace exists", move |facts| {
                super::control_plane::has(facts, What::Namespaces, &[&namespace])
            })
            .hint("name another one by -n")
            .is_fatal(),
        );
    }
    checks.extend([
        Check::new("data plane proxies are ready", ready)
            .hint("`kubectl logs POD -c linkerd-proxy` says why not")
            .is_waited_for(),
        Check::new("data plane is up-to-date", current)
            .hint(format!("they are of another version: {RESTART}"))
            .warns(),
        Check::new("data plane pod labels are configured correctly", |facts| {
            misplaced(facts, What::Pods)
        })
        .hint("these keys are annotations: move them from the labels")
        .warns(),
        Check::new("data plane service labels are configured correctly", |facts| {
            misplaced(facts, What::Services)
        })
        .hint("these keys are annotations: move them from the labels")
        .warns(),
        Check::new("opaque ports are properly annotated", opaque)
            .hint("give the Service and its pods the same config.linkerd.io/opaque-ports")
            .warns(),
    ]);
    vec![
        Category::new("linkerd-identity-data-plane", identity),
        Category::new("linkerd-data-plane", checks),
    ]
}

fn is_asked_for(facts: &Facts, object: &Value) -> bool {
    let namespace = facts.ask.namespace.as_deref();
    namespace.is_none_or(|namespace| namespace == object_namespace(object))
}

/// The pods with a sidecar, the control plane's left out.
fn pods(facts: &Facts) -> Result<Vec<&Value>, String> {
    let own = &facts.ask.control_plane;
    let all = facts.list(What::Pods)?.iter();
    Ok(all
        .filter(|pod| is_asked_for(facts, pod) && is_injected(pod) && !is_over(pod) && object_namespace(pod) != own)
        .collect())
}

/// The pods with a sidecar of which something is wrong.
fn wrong(facts: &Facts, is_wrong: impl Fn(&Value) -> Option<String>) -> Result<Vec<String>, String> {
    Ok(pods(facts)?
        .into_iter()
        .filter_map(|pod| is_wrong(pod).map(|why| format!("{}{why}", full_name(pod))))
        .collect())
}

fn outcome(found: Result<Vec<String>, String>, sentence: impl FnOnce(&str) -> String) -> Outcome {
    match found {
        Ok(names) => Outcome::none_of(&names, sentence),
        Err(error) => Outcome::Unknown(error),
    }
}

fn ready(facts: &Facts) -> Outcome {
    match pods(facts) {
        Ok(pods) if pods.is_empty() => {
            let place = facts
                .ask
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
        format!("the control plane is {version}, but not the sidecar of {names}")
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
    let wanted = lines(anchors);
    let found = wrong(facts, |pod| {
        let containers = items(pod, "/spec/containers").chain(items(pod, "/spec/initContainers"));
        let mut env = containers
            .filter(|container| container["name"] == destination_k8s::keys::PROXY_CONTAINER)
            .flat_map(|container| items(container, "/env"));
        let has = env.find(|var| var["name"] == "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS")?;
        // One that is read from the ConfigMap has no value here, and is the same.
        let has = has["value"].as_str()?;
        (lines(has) != wanted).then(String::new)
    });
    outcome(found, |names| format!("other trust anchors in {names}"))
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
    Outcome::none_of(&sick, |names| format!("without a valid certificate: {names}"))
}

fn all_asked(facts: &Facts) -> Outcome {
    let (asked, left) = (facts.proxies.len(), facts.proxies_left);
    if left == 0 {
        return Outcome::Pass;
    }
    Outcome::Fail(format!("{asked} were asked, {left} were not"))
}

/// When the leaf ends, since 1970.
fn expiry(metrics: &str) -> Option<Duration> {
    let line = metrics.lines().find(|line| line.starts_with(CERT_EXPIRATION.name))?;
    let seconds: f64 = line.rsplit_once(' ')?.1.parse().ok()?;
    (seconds > 0.0).then(|| Duration::from_secs_f64(seconds))
}

/// Annotations that stand among the labels do nothing.
fn misplaced(facts: &Facts, what: What) -> Outcome {
    let objects = match facts.list(what) {
        Ok(objects) => objects,
        Err(error) => return Outcome::Unknown(error),
    };
    let found: Vec<String> = objects
        .iter()
        .filter(|object| is_asked_for(facts, object))
        .filter(|object| !label(object, destination_k8s::keys::INJECT).is_empty())
        .map(full_name)
        .collect();
    Outcome::none_of(&found, |names| {
        format!(
            "{} is a label, which does nothing, of {names}",
            destination_k8s::keys::INJECT
        )
    })
}

/// A Service that says a port is opaque and pods that do not (or the other way round) disagree about the first bytes.
fn opaque(facts: &Facts) -> Outcome {
    let key = destination_k8s::keys::OPAQUE_PORTS;
    let (Ok(services), Ok(pods)) = (facts.list(What::Services), pods(facts)) else {
        return Outcome::Skip;
    };
    let mut differ = Vec::new();
    for service in services.iter().filter(|service| is_asked_for(facts, service)) {
        let said = annotation(service, key);
        let Some(selector) = service["spec"]["selector"]
            .as_object()
            .filter(|selector| !said.is_empty() && !selector.is_empty())
        else {
            continue;
        };
        let selected = pods.iter().filter(|pod| {
            object_namespace(pod) == object_namespace(service)
                && selector
                    .iter()
                    .all(|(key, value)| pod["metadata"]["labels"][key] == *value)
        });
        let ports: Vec<&str> = said.split(',').map(str::trim).collect();
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
    Outcome::none_of(&differ, |names| names.to_owned())
}
