//! `linkerd-existence`, `linkerd-config`, `linkerd-control-plane-proxy`, `linkerd-ha-checks`: the control plane is
//! complete and ready.

use ipnet::IpNet;
use serde_json::Value;

use crate::{
    Category, Check, Facts, ObjectKind, Outcome, Scope,
    facts::{items, label, object_name, text, view_pod},
};

/// Deployments of the control plane; each has a service account of the same name.
pub(super) const DEPLOYMENTS: [&str; 3] = ["linkerd-destination", "linkerd-identity", "linkerd-proxy-injector"];
const COMPONENT: &str = "linkerd.io/control-plane-component";
const INSTALL: &str = "run `mesh install | kubectl apply -f -`";

pub(super) fn categories(scope: &Scope) -> Vec<Category> {
    vec![existence(), config(scope)]
}

fn existence() -> Category {
    Category::new(
        "linkerd-existence",
        vec![
            Check::new("'linkerd-config' config map exists", |facts| {
                has(facts, ObjectKind::ConfigMaps, &["linkerd-config"])
            })
            .hint("run `mesh install | kubectl apply -f -`, or select the control plane's namespace with -L")
            .fatal(),
            Check::new("control plane Deployments exist", |facts| {
                has(facts, ObjectKind::Deployments, &DEPLOYMENTS)
            })
            .hint(INSTALL),
            Check::new("no unschedulable pods", unschedulable)
                .hint("run `kubectl -n linkerd describe pod` to see what the scheduler lacks")
                .retried(),
            Check::new("control plane pods are ready", ready)
                .hint("run `kubectl -n linkerd get pods` and `kubectl -n linkerd logs`")
                .retried(),
            Check::new("cluster networks contain all pods", networks).hint(
                "add the pods' networks to the value clusterNetworks, and run `mesh upgrade | kubectl apply -f -`",
            ),
            Check::new("IPv6 traffic does not bypass the sidecars", dual_stack)
                .hint("run `mesh upgrade --set disableIPv6=false | kubectl apply -f -` and restart the meshed pods"),
        ],
    )
}

fn config(scope: &Scope) -> Category {
    let namespace = scope.control_plane.clone();
    let roles = ["destination", "identity", "proxy-injector"].map(|name| format!("linkerd-{namespace}-{name}"));
    let of_roles = roles.clone();
    let find = |facts: &Facts, what, names: &[String]| {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        has(facts, what, &names)
    };
    let checks = vec![
        Check::new("control plane Namespace exists", move |facts| {
            has(facts, ObjectKind::Namespaces, &[&namespace])
        }),
        Check::new("control plane ClusterRoles exist", move |facts| {
            find(facts, ObjectKind::ClusterRoles, &roles)
        }),
        Check::new("control plane ClusterRoleBindings exist", move |facts| {
            find(facts, ObjectKind::ClusterRoleBindings, &of_roles)
        }),
        Check::new("control plane ServiceAccounts exist", |facts| {
            has(facts, ObjectKind::ServiceAccounts, &DEPLOYMENTS)
        }),
        Check::new("control plane MutatingWebhookConfigurations exist", |facts| {
            has(facts, ObjectKind::Mutating, &[super::webhooks::INJECTOR])
        }),
        Check::new("control plane ValidatingWebhookConfigurations exist", |facts| {
            has(facts, ObjectKind::Validating, &[super::webhooks::VALIDATOR])
        }),
    ];
    Category::new(
        "linkerd-config",
        checks.into_iter().map(|check| check.hint(INSTALL)).collect(),
    )
}

pub(super) fn proxies() -> Category {
    let check = Check::new("control plane proxies are healthy", |facts| {
        let pods = match control_plane_pods(facts) {
            Ok(pods) => pods,
            Err(error) => return Outcome::Unknown(error),
        };
        let sick: Vec<String> = pods
            .into_iter()
            .filter(|pod| !proxy_is_ready(pod))
            .map(|pod| object_name(pod).to_owned())
            .collect();
        Outcome::fail_if_any(&sick, |names| format!("the sidecar is not ready in {names}"))
    });
    Category::new(
        "linkerd-control-plane-proxy",
        vec![
            check
                .hint("run `kubectl -n linkerd logs POD -c linkerd-proxy`")
                .retried(),
        ],
    )
}

pub(super) fn high_availability() -> Category {
    let check = Check::new("multiple replicas of control plane pods", |facts| {
        let Ok(deployments) = facts.list(ObjectKind::Deployments) else {
            return Outcome::Skip;
        };
        let replicated = |deployment: &&Value| deployment["spec"]["replicas"].as_u64().unwrap_or(1) > 1;
        let many: Vec<&Value> = deployments.iter().filter(replicated).collect();
        if many.is_empty() {
            return Outcome::Skip;
        }
        let few: Vec<String> = many
            .into_iter()
            .filter(|deployment| deployment["status"]["readyReplicas"].as_u64().unwrap_or(0) < 2)
            .map(|deployment| object_name(deployment).to_owned())
            .collect();
        Outcome::fail_if_any(&few, |names| format!("fewer than two ready pods: {names}"))
    });
    Category::new(
        "linkerd-ha-checks",
        vec![
            check
                .hint("run `kubectl -n linkerd describe pod` to see what the scheduler lacks; each replica requires its own node")
                .retried()
                .warning(),
        ],
    )
}

/// Verifies that all of these objects exist.
pub(super) fn has(facts: &Facts, what: ObjectKind, names: &[&str]) -> Outcome {
    let mut missing = Vec::new();
    for name in names {
        match facts.named(what, name) {
            Ok(Some(_)) => {}
            Ok(None) => missing.push((*name).to_owned()),
            Err(error) => return Outcome::Unknown(error),
        }
    }
    Outcome::fail_if_any(&missing, |names| format!("missing {}: {names}", what.plural()))
}

pub(super) fn control_plane_pods(facts: &Facts) -> Result<Vec<&Value>, String> {
    let pods = facts.pods_in(&facts.scope.control_plane)?;
    Ok(pods
        .filter(|pod| !label(pod, COMPONENT).is_empty() && !has_ended(pod))
        .collect())
}

/// Returns true if the pod has finished, or is terminating.
pub(super) fn has_ended(pod: &Value) -> bool {
    view_pod(pod, |pod| pod.is_finished() || pod.is_terminating())
}

pub(super) fn is_ready(pod: &Value) -> bool {
    view_pod(pod, |pod| pod.is_ready())
}

/// Returns true if the pod's sidecar, ordinary or native, is ready.
pub(super) fn proxy_is_ready(pod: &Value) -> bool {
    view_pod(pod, |pod| pod.is_sidecar_ready())
}

fn unschedulable(facts: &Facts) -> Outcome {
    let pods = match control_plane_pods(facts) {
        Ok(pods) => pods,
        Err(error) => return Outcome::Unknown(error),
    };
    let mut wrong = Vec::new();
    for pod in pods {
        let mut conditions = items(pod, "/status/conditions");
        let found = conditions.find(|condition| condition["type"] == "PodScheduled" && condition["status"] == "False");
        if let Some(condition) = found {
            wrong.push(format!("{} ({})", object_name(pod), text(condition, "/message")));
        }
    }
    Outcome::fail_if_any(&wrong, |names| format!("unschedulable: {names}"))
}

fn ready(facts: &Facts) -> Outcome {
    let pods = match control_plane_pods(facts) {
        Ok(pods) => pods,
        Err(error) => return Outcome::Unknown(error),
    };
    let mut wrong: Vec<String> = Vec::new();
    for name in DEPLOYMENTS {
        let component = name.trim_start_matches("linkerd-");
        if !pods.iter().any(|pod| label(pod, COMPONENT) == component) {
            wrong.push(format!("{name} (no pod is running)"));
        }
    }
    let not_ready = pods.into_iter().filter(|pod| !is_ready(pod));
    wrong.extend(not_ready.map(|pod| format!("{}{}", object_name(pod), why(pod))));
    Outcome::fail_if_any(&wrong, |names| format!("not ready: {names}"))
}

/// Returns why a container is not running, if the kubelet reports it.
fn why(pod: &Value) -> String {
    let statuses = items(pod, "/status/initContainerStatuses").chain(items(pod, "/status/containerStatuses"));
    for status in statuses {
        let reason = text(status, "/state/waiting/reason");
        if !matches!(reason, "" | "PodInitializing" | "ContainerCreating") {
            return format!(" ({}: {reason})", text(status, "/name"));
        }
    }
    String::new()
}

/// Without redirection of IPv6, a pod's IPv6 address leads around its sidecar, and no policy applies.
fn dual_stack(facts: &Facts) -> Outcome {
    let Ok(Some(config)) = facts.named(ObjectKind::ConfigMaps, "linkerd-config") else {
        return Outcome::Skip;
    };
    let value = text(config, "/data/values")
        .lines()
        .find_map(|line| line.strip_prefix("disableIPv6:"));
    if value.is_some_and(|value| value.trim() == "false") {
        return Outcome::Pass;
    }
    let is_ipv6 = |value: &Value| {
        value
            .as_str()
            .is_some_and(|value| value == "IPv6" || value.contains(':'))
    };
    let has_ipv6 = |object: &Value, pointer: &str, field: &str| {
        items(object, pointer).any(|item| is_ipv6(item) || is_ipv6(&item[field]))
    };
    let mut found = Vec::new();
    for (what, kind, pointer, field) in [
        (ObjectKind::Pods, "pod", "/status/podIPs", "ip"),
        (ObjectKind::Services, "Service", "/spec/ipFamilies", ""),
        (ObjectKind::Nodes, "node", "/spec/podCIDRs", ""),
    ] {
        let objects = facts.list(what).unwrap_or_default().iter();
        let objects = objects.filter(|object| has_ipv6(object, pointer, field));
        found.extend(
            objects.map(|object| format!("{kind} {}", crate::facts::full_name(object).trim_start_matches('/'))),
        );
    }
    Outcome::fail_if_any(&found, |names| {
        format!("disableIPv6 is set, but the cluster uses IPv6: {names}")
    })
}

/// Pods outside `clusterNetworks` are not discovered: their traffic would bypass the mesh.
fn networks(facts: &Facts) -> Outcome {
    let Ok(Some(config)) = facts.named(ObjectKind::ConfigMaps, "linkerd-config") else {
        return Outcome::Skip;
    };
    let values = text(config, "/data/values");
    let Some(line) = values.lines().find_map(|line| line.strip_prefix("clusterNetworks:")) else {
        return Outcome::Skip;
    };
    let networks: Vec<IpNet> = line
        .trim()
        .trim_matches('"')
        .split(',')
        .filter_map(|network| network.trim().parse().ok())
        .collect();
    let Ok(pods) = facts.list(ObjectKind::Pods) else {
        return Outcome::Skip;
    };
    if networks.is_empty() {
        return Outcome::Skip;
    }
    let outside: Vec<String> = pods
        .iter()
        .filter(|pod| pod["spec"]["hostNetwork"] != true && !has_ended(pod))
        .filter_map(|pod| Some((pod, text(pod, "/status/podIP").parse::<std::net::IpAddr>().ok()?)))
        .filter(|(_, ip)| !networks.iter().any(|network| network.contains(ip)))
        .map(|(pod, ip)| format!("{} [{ip}]", crate::facts::full_name(pod)))
        .collect();
    Outcome::fail_if_any(&outside, |names| {
        format!("clusterNetworks does not contain the pods {names}")
    })
}
