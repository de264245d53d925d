//! `pre-kubernetes-setup`: this user can install the mesh on this cluster.

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    Category, Check, Facts, ObjectKind, Outcome, Permission, Scope,
    facts::{items, object_name, text},
};

/// A node reports its status every five minutes; ten seconds are for the way.
const HEARTBEAT_SECONDS: i64 = 310;
/// API groups of the permissions.
const RBAC: &str = "rbac.authorization.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";

pub(super) fn permissions(scope: &Scope) -> Vec<Permission> {
    let permission = |verb, group, resource| Permission {
        verb,
        group,
        resource,
        ..Permission::default()
    };
    let mut all = vec![
        permission("create", "", "namespaces"),
        permission("create", "apiextensions.k8s.io", "customresourcedefinitions"),
        permission("create", RBAC, "clusterroles"),
        permission("create", RBAC, "clusterrolebindings"),
        permission("create", ADMISSION, "mutatingwebhookconfigurations"),
        permission("create", ADMISSION, "validatingwebhookconfigurations"),
    ];
    let mut within = |verb, group, resource| {
        all.push(Permission {
            namespace: scope.control_plane.clone(),
            ..permission(verb, group, resource)
        });
    };
    within("create", "", "serviceaccounts");
    within("create", "", "services");
    within("create", "apps", "deployments");
    within("create", RBAC, "roles");
    within("create", RBAC, "rolebindings");
    within("create", "", "configmaps");
    within("create", "", "secrets");
    within("get", "", "secrets");
    all.push(Permission {
        namespace: "kube-system".to_owned(),
        name: "extension-apiserver-authentication",
        ..permission("get", "", "configmaps")
    });
    all
}

pub(super) fn category(scope: &Scope) -> Category {
    let namespace = scope.control_plane.clone();
    let mut checks = vec![
        Check::new(
            "control plane namespace does not already exist",
            move |facts| match facts.named(ObjectKind::Namespaces, &namespace) {
                Ok(None) => Outcome::Pass,
                Ok(Some(_)) => Outcome::Fail(format!("the namespace {namespace:?} already exists")),
                Err(error) => Outcome::Unknown(error),
            },
        )
        .hint("run `mesh uninstall | kubectl delete -f -` to remove an earlier installation"),
        Check::new("no other Linkerd's resources are served", foreign)
            .hint("uninstall the other Linkerd first, or upgrade it with its own tools")
            .warning(),
    ];
    for permission in permissions(scope) {
        let of = match (permission.name, permission.group) {
            ("", "") => permission.resource.to_owned(),
            ("", group) => format!("{}.{group}", permission.resource),
            (name, _) => format!("{} {name}", permission.resource),
        };
        let check = Check::new(format!("can {} {of}", permission.verb), move |facts| {
            decide(facts, &permission)
        });
        checks.push(check.hint("ask the cluster's administrator for the permission, or for the installation"));
    }
    checks.push(
        Check::new("no clock skew detected", skew)
            .hint("the clocks of the nodes and of this machine must agree: use NTP")
            .warning(),
    );
    Category::new("pre-kubernetes-setup", checks)
}

fn decide(facts: &Facts, permission: &Permission) -> Outcome {
    match facts.permissions.iter().find(|(queried, _)| queried == permission) {
        None => Outcome::Skip,
        Some((_, Ok(true))) => Outcome::Pass,
        Some((_, Ok(false))) => Outcome::Fail(match permission.namespace.as_str() {
            "" => format!("not authorized to {} {}", permission.verb, permission.resource),
            namespace => format!(
                "not authorized to {} {} in the namespace {namespace}",
                permission.verb, permission.resource
            ),
        }),
        Some((_, Err(error))) => Outcome::Unknown(error.clone()),
    }
}

/// Linkerd resources of another installation, by the annotation of their creator.
fn foreign(facts: &Facts) -> Outcome {
    let resources = match facts.list(ObjectKind::Resources) {
        Ok(resources) => resources,
        Err(error) => return Outcome::Unknown(error),
    };
    let is_linkerds = |name: &str| name.ends_with(".policy.linkerd.io") || name.ends_with(".linkerd.io");
    let ours =
        |object: &serde_json::Value| crate::facts::annotation(object, "linkerd.io/created-by").starts_with("mesh/");
    let found: Vec<String> = resources
        .iter()
        .filter(|object| is_linkerds(object_name(object)) && !ours(object))
        .map(|object| object_name(object).to_owned())
        .collect();
    Outcome::fail_if_any(&found, |names| format!("resources of another installation: {names}"))
}

fn skew(facts: &Facts) -> Outcome {
    let nodes = match facts.list(ObjectKind::Nodes) {
        Ok(nodes) => nodes,
        Err(error) => return Outcome::Unknown(error),
    };
    let now = OffsetDateTime::from(facts.now);
    let mut wrong = Vec::new();
    for node in nodes {
        let conditions = items(node, "/status/conditions");
        let mut beats = conditions.filter(|condition| condition["type"] == "Ready");
        let beat =
            beats.find_map(|condition| OffsetDateTime::parse(text(condition, "/lastHeartbeatTime"), &Rfc3339).ok());
        if beat.is_some_and(|beat| (now - beat).whole_seconds().abs() > HEARTBEAT_SECONDS) {
            wrong.push(object_name(node).to_owned());
        }
    }
    Outcome::fail_if_any(&wrong, |names| format!("clock skew detected on the nodes {names}"))
}
