//! `linkerd-crd`: are the custom resources there, in the versions that this program's chart has.

use crate::{
    Ask, Category, Check, Facts, Outcome, What,
    facts::{items, object_name, text},
};

const HINT: &str = "run `mesh install --crds | kubectl apply -f -`";

pub(super) fn category(_: &Ask) -> Category {
    Category::new(
        "linkerd-crd",
        vec![
            Check::new("control plane CustomResourceDefinitions exist", exist)
                .hint(HINT)
                .is_waited_for(),
            Check::new("control plane CustomResourceDefinitions are up-to-date", current).hint(HINT),
            Check::new("control plane CustomResourceDefinitions are established", established)
                .hint("`kubectl describe crd NAME` says what the API server has against it")
                .is_waited_for(),
            Check::new(
                "no CustomResourceDefinition has a group that the mesh does not read",
                strangers,
            )
            .hint("write such objects under the group that the mesh reads, and delete the CustomResourceDefinition"),
        ],
    )
}

fn exist(facts: &Facts) -> Outcome {
    let mut missing = Vec::new();
    for (name, _) in &facts.ask.resources {
        match facts.named(What::Resources, name) {
            Ok(Some(_)) => {}
            Ok(None) => missing.push(name.clone()),
            Err(error) => return Outcome::Unknown(error),
        }
    }
    Outcome::none_of(&missing, |names| format!("missing: {names}"))
}

fn current(facts: &Facts) -> Outcome {
    let mut old = Vec::new();
    for (name, versions) in &facts.ask.resources {
        let Ok(Some(resource)) = facts.named(What::Resources, name) else {
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
    Outcome::none_of(&old, |names| format!("older than this program: {names}"))
}

fn established(facts: &Facts) -> Outcome {
    let mut not = Vec::new();
    for (name, _) in &facts.ask.resources {
        let Ok(Some(resource)) = facts.named(What::Resources, name) else {
            continue;
        };
        let mut conditions = items(resource, "/status/conditions");
        if !conditions.any(|condition| condition["type"] == "Established" && condition["status"] == "True") {
            not.push(name.clone());
        }
    }
    Outcome::none_of(&not, |names| format!("not served yet: {names}"))
}

/// Some guides write policies under a group that no Linkerd ever served.
fn strangers(facts: &Facts) -> Outcome {
    let resources = match facts.list(What::Resources) {
        Ok(resources) => resources,
        Err(error) => return Outcome::Unknown(error),
    };
    let wrong: Vec<String> = resources
        .iter()
        .filter(|resource| text(resource, "/spec/group") == "security.linkerd.io")
        .map(|resource| object_name(resource).to_owned())
        .collect();
    Outcome::none_of(&wrong, |names| {
        format!("the mesh reads nothing of the group security.linkerd.io; the group is policy.linkerd.io: {names}")
    })
}
