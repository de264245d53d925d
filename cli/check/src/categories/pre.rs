//! `pre-kubernetes-setup`: can the mesh be installed here, by us.

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    Ask, Category, Check, Facts, Outcome, Right, What,
    facts::{items, object_name, text},
};

/// A node says each five minutes that it lives; ten seconds are for the way.
const HEARTBEAT_SECONDS: i64 = 310;
/// Groups whose CRDs another mesh may have brought.
const RBAC: &str = "rbac.authorization.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";

pub(super) fn rights(ask: &Ask) -> Vec<Right> {
    let right = |verb, group, resource| Right {
        verb,
        group,
        resource,
        ..Right::default()
    };
    let mut all = vec![
        right("create", "", "namespaces"),
        right("create", "apiextensions.k8s.io", "customresourcedefinitions"),
        right("create", RBAC, "clusterroles"),
        right("create", RBAC, "clusterrolebindings"),
        right("create", ADMISSION, "mutatingwebhookconfigurations"),
        right("create", ADMISSION, "validatingwebhookconfigurations"),
    ];
    let mut within = |verb, group, resource| {
        all.push(Right {
            namespace: ask.control_plane.clone(),
            ..right(verb, group, resource)
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
    all.push(Right {
        namespace: "kube-system".to_owned(),
        name: "extension-apiserver-authentication",
        ..right("get", "", "configmaps")
    });
    all
}

pub(super) fn category(ask: &Ask) -> Category {
    let namespace = ask.control_plane.clone();
    let mut checks = vec![
        Check::new(
            "control plane namespace does not already exist",
            move |facts| match facts.named(What::Namespaces, &namespace) {
                Ok(None) => Outcome::Pass,
                Ok(Some(_)) => Outcome::Fail(format!("the namespace {namespace:?} already exists")),
                Err(error) => Outcome::Unknown(error),
            },
        )
        .hint("`mesh uninstall | kubectl delete -f -` takes an earlier installation away"),
        Check::new("no other Linkerd's resources are served", foreign)
            .hint("take the other Linkerd away first, or upgrade it by its own means")
            .warns(),
    ];
    for right in rights(ask) {
        let of = match (right.name, right.group) {
            ("", "") => right.resource.to_owned(),
            ("", group) => format!("{}.{group}", right.resource),
            (name, _) => format!("{} {name}", right.resource),
        };
        let check = Check::new(format!("can {} {of}", right.verb), move |facts| decide(facts, &right));
        checks.push(check.hint("ask whoever runs the cluster for the right, or for the installation"));
    }
    checks.push(
        Check::new("no clock skew detected", skew)
            .hint("the clocks of the nodes and of this machine must agree: use NTP")
            .warns(),
    );
    Category::new("pre-kubernetes-setup", checks)
}

fn decide(facts: &Facts, right: &Right) -> Outcome {
    match facts.rights.iter().find(|(asked, _)| asked == right) {
        None => Outcome::Skip,
        Some((_, Ok(true))) => Outcome::Pass,
        Some((_, Ok(false))) => Outcome::Fail(match right.namespace.as_str() {
            "" => format!("not authorized to {} {}", right.verb, right.resource),
            namespace => format!(
                "not authorized to {} {} in the namespace {namespace}",
                right.verb, right.resource
            ),
        }),
        Some((_, Err(error))) => Outcome::Unknown(error.clone()),
    }
}

/// Resources of Linkerd that we did not make; its charts label theirs with the release's tool.
fn foreign(facts: &Facts) -> Outcome {
    let resources = match facts.list(What::Resources) {
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
    Outcome::none_of(&found, |names| {
        format!("somebody else's resources are installed: {names}")
    })
}

fn skew(facts: &Facts) -> Outcome {
    let nodes = match facts.list(What::Nodes) {
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
    Outcome::none_of(&wrong, |names| format!("clock skew detected for the nodes {names}"))
}
