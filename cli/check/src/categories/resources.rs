//! `linkerd-crd`: the custom resources exist, in the versions of this program's chart.

use crate::{
    Category, Check, Facts, ObjectKind, Outcome, Scope,
    facts::{items, object_name, text},
};

const HINT: &str = "run `mesh install --crds | kubectl apply -f -`";

pub(super) fn category(_: &Scope) -> Category {
    Category::new(
        "linkerd-crd",
        vec![
            Check::new("control plane CustomResourceDefinitions exist", exist)
                .hint(HINT)
                .retried(),
            Check::new("control plane CustomResourceDefinitions are up-to-date", current).hint(HINT),
            Check::new("control plane CustomResourceDefinitions are established", established)
                .hint("run `kubectl describe crd NAME` to see why the API server rejects it")
                .retried(),
            Check::new(
                "no CustomResourceDefinition has a group that the mesh does not read",
                strangers,
            )
            .hint("move such objects to the group that the mesh reads, and delete the CustomResourceDefinition"),
        ],
    )
}

fn exist(facts: &Facts) -> Outcome {
    let mut missing = Vec::new();
    for (name, _) in &facts.scope.resources {
        match facts.named(ObjectKind::Resources, name) {
            Ok(Some(_)) => {}
            Ok(None) => missing.push(name.clone()),
            Err(error) => return Outcome::Unknown(error),
        }
    }
    Outcome::fail_if_any(&missing, |names| format!("missing: {names}"))
}

fn current(facts: &Facts) -> Outcome {
    if exist(facts) != Outcome::Pass {
        return Outcome::Skip;
    }
    let mut old = Vec::new();
    for (name, versions) in &facts.scope.resources {
        let Ok(Some(resource)) = facts.named(ObjectKind::Resources, name) else {
            continue;
        };
        let served: Vec<&str> = items(resource, "/spec/versions")
            .filter(|version| version["served"] == true)
            .map(|version| text(version, "/name"))
            .collect();
        let missing: Vec<&str> = versions
            .iter()
            .map(String::as_str)
            .filter(|version| !served.contains(version))
            .collect();
        if !missing.is_empty() {
            old.push(format!("{name} (without {})", missing.join(", ")));
        }
    }
    Outcome::fail_if_any(&old, |names| format!("older than this program: {names}"))
}

fn established(facts: &Facts) -> Outcome {
    if exist(facts) != Outcome::Pass {
        return Outcome::Skip;
    }
    let mut not = Vec::new();
    for (name, _) in &facts.scope.resources {
        let Ok(Some(resource)) = facts.named(ObjectKind::Resources, name) else {
            continue;
        };
        let mut conditions = items(resource, "/status/conditions");
        if !conditions.any(|condition| condition["type"] == "Established" && condition["status"] == "True") {
            not.push(name.clone());
        }
    }
    Outcome::fail_if_any(&not, |names| format!("not served yet: {names}"))
}

/// Some guides use a policy group that no Linkerd ever served.
fn strangers(facts: &Facts) -> Outcome {
    let resources = match facts.list(ObjectKind::Resources) {
        Ok(resources) => resources,
        Err(error) => return Outcome::Unknown(error),
    };
    let wrong: Vec<String> = resources
        .iter()
        .filter(|resource| text(resource, "/spec/group") == "security.linkerd.io")
        .map(|resource| object_name(resource).to_owned())
        .collect();
    Outcome::fail_if_any(&wrong, |names| {
        format!("the mesh ignores the group security.linkerd.io; use policy.linkerd.io: {names}")
    })
}
